import SwiftProtobuf
import Testing

@testable import MartletReachability

@Test func aReserveMessageSaysItsTypeAlthoughThatIsZero() throws {
    var message = HopMessageProtobuf()
    message.type = .reserve
    #expect(try Array(message.serializedBytes() as [UInt8]) == [0x08, 0x00])
}

import Testing

@testable import MartletCore

@Test func slicesShareMemoryAndKeepTheirContent() {
    var message: Bytes = [1, 2, 3, 4, 5, 6]
    let head = message.takeFirst(2)
    #expect(head.array == [1, 2])
    #expect(message.array == [3, 4, 5, 6])
    #expect(message[1..<3].array == [4, 5])
    #expect(message[0] == 3)
    #expect(message.prefix(100).array == [3, 4, 5, 6])
    #expect(message.dropFirst(100).isEmpty)
    message.removeFirst(4)
    #expect(message.isEmpty)
    #expect(message.retainedByteCount == 0)
    #expect(head.retainedByteCount == 6)
    #expect(head.compacted().retainedByteCount == 2)
    #expect(head.compacted() == head)
}

@Test func bytesAreEqualByContent() {
    let one: Bytes = [0, 1, 2, 3, 0, 1, 2, 3]
    #expect(one[0..<4] == one[4..<8])
    #expect(one[0..<4].hashValue == one[4..<8].hashValue)
    #expect(one[0..<4] != one[3..<7])
    #expect(one[0..<4] != one[0..<3])
    #expect(one[2..<2] == Bytes())
    #expect(Bytes([]) == Bytes())
}

@Test func aSpanSeesTheSlice() throws {
    let bytes: Bytes = [9, 8, 7, 6]
    let slice = bytes[1..<3]
    var reader = ByteReader(slice.span)
    #expect(reader.readRemaining() == [8, 7])
    #expect(Bytes(copying: slice.span) == [8, 7])
    #expect(Bytes().span.byteCount == 0)
}

@Test func anEmptySliceHoldsNoMemory() {
    let pool = BufferPool(blockSize: 64, idleLimit: 4)
    let empty = pool.take().slice(10..<10)
    #expect(empty.isEmpty)
    #expect(pool.idleCount == 1)
}

@Test func descriptionsTellNothingOfTheContent() {
    #expect("\(Bytes(utf8: "secret"))" == "6 bytes")
}

@Test func memoryOfSomebodyElseIsKeptAliveAsLongAsASliceLives() {
    final class Owner {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4, alignment: 1)
        let onDeinit: () -> Void
        init(_ onDeinit: @escaping () -> Void) { self.onDeinit = onDeinit }
        deinit {
            memory.deallocate()
            onDeinit()
        }
    }
    var isGone = false
    var slice: Bytes?
    do {
        let owner = Owner { isGone = true }
        owner.memory.copyBytes(from: [1, 2, 3, 4])
        let base = UnsafeRawPointer(owner.memory.baseAddress!)
        slice = BytesStorage(unowned: base, count: 4, keepingAlive: owner).slice(1..<3)
    }
    #expect(!isGone)
    #expect(slice?.array == [2, 3])
    slice = nil
    #expect(isGone)
}

@Test func transmitBufferBuildsInPlace() {
    var buffer = TransmitBuffer(storage: BytesStorage(capacity: 10))
    let room = buffer.reserve(4)
    room.copyBytes(from: [1, 2, 3, 4])
    #expect(buffer.count == 0)
    buffer.commit(3)
    buffer.append([9, 9] as Bytes)
    #expect(Array(buffer.written) == [1, 2, 3, 9, 9])
    #expect(buffer.remaining == 5)
    buffer.clear()
    #expect(buffer.count == 0)
    #expect(buffer.remaining == 10)
}

import Testing

@testable import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@Test func blocksReturnToTheirPoolWithTheLastSlice() {
    let pool = BufferPool(blockSize: 100, idleLimit: 2)
    var block: BytesStorage? = pool.take()
    var slice: Bytes? = block?.slice(0..<10)
    block = nil
    #expect(pool.idleCount == 0)
    #expect(slice?.count == 10)
    slice = nil
    #expect(pool.idleCount == 1)
    // The next one taken is that one.
    block = pool.take()
    #expect(pool.idleCount == 0)
    block = nil
    pool.trim()
    #expect(pool.idleCount == 0)
}

@Test func aPoolKeepsNoMoreThanItsLimit() {
    let pool = BufferPool(blockSize: 100, idleLimit: 2)
    var blocks = (0..<5).map { _ in pool.take() }
    #expect(blocks.count == 5)
    blocks = []
    #expect(pool.idleCount == 2)
}

@Test func aPoolOutlivesItsLastReferenceWhileABlockIsOut() {
    var pool: BufferPool? = BufferPool(blockSize: 100, idleLimit: 2)
    weak let seen = pool
    var slice: Bytes? = pool?.take().slice(0..<1)
    pool = nil
    #expect(seen != nil)
    #expect(slice?.count == 1)
    slice = nil
    #expect(seen == nil)
}

@Test func blocksWanderBetweenThreads() async {
    let pool = BufferPool(blockSize: 1000, idleLimit: 1000)
    await withTaskGroup(of: Void.self) { group in
        for seed in 0..<8 {
            for _ in 0..<50 {
                let block = pool.take()
                block.mutableBytes.initializeMemory(as: UInt8.self, repeating: UInt8(seed))
                let slice = block.slice(0..<1000)
                // Another thread drops the last slice.
                group.addTask { #expect(slice.withUnsafeBytes { $0.allSatisfy { $0 == UInt8(seed) } }) }
            }
        }
    }
    #expect(pool.idleCount > 0 && pool.idleCount <= 400)
}

@Test func aBlockLetGoOnAnotherThreadIsTakenAgain() {
    final class Box: @unchecked Sendable { var slice: Bytes? }
    let pool = BufferPool(blockSize: 64, idleLimit: 4)
    let box = Box()
    box.slice = pool.take().slice(0..<64)
    let address = box.slice!.withUnsafeBytes { $0.baseAddress }
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(box)
    let result = pthread_create(
        &thread, nil,
        { argument in
            guard let argument = argument as UnsafeMutableRawPointer? else { return nil }
            Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().slice = nil
            return nil
        }, argument.toOpaque())
    #expect(result == 0)
    pthread_join(thread, nil)
    #expect(pool.idleCount == 1)
    #expect(UnsafeRawPointer(pool.take().mutableBytes.baseAddress) == address)
}

private func receive(_ bytes: [UInt8], into buffer: ReceiveBuffer, keeping leftover: Bytes = Bytes()) -> ReceivedRegion
{
    let space = buffer.space(minimum: bytes.count, keeping: leftover)
    space.copyBytes(from: bytes)
    return buffer.received(bytes.count)
}

@Test func receiveBufferReusesItsBlockOnceNoSliceIsAlive() {
    let pool = BufferPool(blockSize: 100, idleLimit: 4)
    let buffer = ReceiveBuffer(pool: pool)
    let first = receive([1, 2, 3], into: buffer).mutableBytes.baseAddress
    // The region is gone: the same place is filled again.
    #expect(receive([4, 5, 6], into: buffer).mutableBytes.baseAddress == first)
}

@Test func receiveBufferNeverWritesOverASliceThatIsAlive() {
    let pool = BufferPool(blockSize: 100, idleLimit: 4)
    let buffer = ReceiveBuffer(pool: pool)
    var slices: [Bytes] = []
    for round in 0..<50 {
        let content = [UInt8](repeating: UInt8(round), count: 30)
        let region = receive(content, into: buffer)
        slices.append(region.slice(0..<30))
    }
    for (round, slice) in slices.enumerated() {
        #expect(slice.array == [UInt8](repeating: UInt8(round), count: 30))
    }
    // Three rounds fit into a block.
    slices.removeAll()
    #expect(pool.idleCount == 4)
}

@Test func receiveBufferPutsTheLeftoverInFront() {
    let buffer = ReceiveBuffer(pool: BufferPool(blockSize: 64, idleLimit: 4))
    var leftover = Bytes()
    var seen: [UInt8] = []
    // Records of 7 bytes arrive in pieces of 5; what is not a whole record yet goes in front of the next piece.
    for round in 0..<70 {
        let region = receive((0..<5).map { UInt8(truncatingIfNeeded: round * 5 + $0) }, into: buffer, keeping: leftover)
        #expect(region.count == leftover.count + 5)
        var offset = 0
        while region.count - offset >= 7 {
            seen += region.slice(offset..<offset + 7).array
            offset += 7
        }
        leftover = region.slice(offset..<region.count)
    }
    #expect(seen == (0..<350).map { UInt8(truncatingIfNeeded: $0) })
    #expect(leftover.isEmpty)
}

@Test func aSpaceThatGotNothingCostsNoRoom() {
    let pool = BufferPool(blockSize: 64, idleLimit: 4)
    let buffer = ReceiveBuffer(pool: pool)
    let leftover = receive([1, 2, 3, 4], into: buffer).slice(0..<4)
    // A socket that reports readiness and then has nothing, a thousand times.
    for _ in 0..<1000 { _ = buffer.space(minimum: 16, keeping: leftover) }
    #expect(pool.idleCount == 0)
    let region = receive([5], into: buffer, keeping: leftover)
    #expect(region.slice(0..<5).array == [1, 2, 3, 4, 5])
}

@Test func aReleasedReceiveBufferHoldsNoBlock() {
    let pool = BufferPool(blockSize: 64, idleLimit: 4)
    let buffer = ReceiveBuffer(pool: pool)
    _ = receive([1], into: buffer)
    #expect(pool.idleCount == 0)
    buffer.release()
    #expect(pool.idleCount == 1)
    #expect(receive([2], into: buffer).slice(0..<1).array == [2])
}

@Test func aRegionShrinksFromItsFront() {
    var region = ReceivedRegion(copying: [1, 2, 3, 4, 5])
    region.removeFirst(2)
    region.mutableBytes[0] = 30
    #expect(region.count == 3)
    #expect(region.slice(0..<2).array == [30, 4])
}

@Test func aRegionOfASliceChangesTheSliceAndNothingElse() throws {
    let whole = Bytes([1, 2, 3, 4, 5] as [UInt8])
    let (left, right) = (whole[0..<2], whole[4..<5])
    let region = try #require(ReceivedRegion(owning: whole[2..<4]))
    region.mutableBytes[1] = 40
    #expect(region.slice(0..<2).array == [3, 40])
    #expect(left.array == [1, 2] && right.array == [5])
    #expect(ReceivedRegion(owning: Bytes()) == nil)
}

import MartletCore
import MartletTestSupport
import TestVectors
import Testing

@testable import MartletConnection

@Suite struct MultistreamTests {
    private func line(_ text: String) -> [UInt8] { MultistreamMessage.encode(text) }
    private var header: [UInt8] { [0x13] + Array("/multistream/1.0.0\n".utf8) }

    /// A listener that serves `served`, as a decoder of what is agreed on and of the bytes after it.
    private func listening(for served: Set<String>) -> (ArraySlice<UInt8>) throws -> [String] {
        var machine = MultistreamListener()
        var isDone = false
        return { chunk in
            guard !isDone else { return chunk.map { "byte \($0)" } }
            let progress = try Array(chunk).withUnsafeBytes { try machine.receive($0.bytes) { served.contains($0) } }
            guard let agreed = progress.agreed else {
                #expect(progress.consumed == chunk.count)
                return []
            }
            isDone = true
            return [agreed] + chunk.dropFirst(progress.consumed).map { "byte \($0)" }
        }
    }

    private func dial(_ machine: inout MultistreamDialer, _ bytes: [UInt8]) throws(MultistreamError)
        -> MultistreamProgress
    {
        try machine.receive(bytes.span.bytes)
    }

    private func listen(
        _ machine: inout MultistreamListener, _ bytes: [UInt8], _ served: Set<String> = ["/a"]
    ) throws(MultistreamError) -> MultistreamProgress {
        try machine.receive(bytes.span.bytes) { served.contains($0) }
    }

    @Test func lengthCountsTheLineFeed() {
        #expect(line("na") == [3, 0x6E, 0x61, 0x0A])
        #expect(MultistreamMessage.header == header)
        #expect(line(String(repeating: "x", count: 130)).prefix(2) == [0x83, 0x01])
    }

    @Test func singleProposalGoesAhead() throws {
        var dialer = MultistreamDialer(proposals: ["/a"])
        #expect(dialer.maySendAhead)
        #expect(dialer.takeOutput() == header + line("/a"))
        #expect(dialer.takeOutput() == [])
        let progress = try dial(&dialer, header + line("/a") + [7, 8, 9])
        #expect(progress == MultistreamProgress(consumed: header.count + 4, agreed: "/a"))
        #expect(MultistreamDialer.opening(for: "/a").array == header + line("/a"))
    }

    @Test func severalProposalsAreTriedInTurn() throws {
        var dialer = MultistreamDialer(proposals: ["/a", "/b", "/c"])
        #expect(!dialer.maySendAhead)
        #expect(dialer.takeOutput() == header + line("/a"))
        #expect(try dial(&dialer, header + line("na")).agreed == nil)
        #expect(dialer.takeOutput() == line("/b"))
        #expect(try dial(&dialer, line("na")).agreed == nil)
        #expect(dialer.takeOutput() == line("/c"))
        #expect(!dialer.maySendAhead)
        #expect(try dial(&dialer, line("/c")).agreed == "/c")
        #expect(dialer.maySendAhead)
    }

    @Test func dialerGivesUpWhenAllIsRefused() {
        var dialer = MultistreamDialer(proposals: ["/a", "/b"])
        let answers = header + line("na") + line("na")
        #expect(
            failure { () throws(MultistreamError) in try dial(&dialer, answers) } == .refused(proposed: ["/a", "/b"]))
    }

    @Test func unaskedAnswerIsRefused() {
        var dialer = MultistreamDialer(proposals: ["/a"])
        let answers = header + line("/b")
        #expect(failure { () throws(MultistreamError) in try dial(&dialer, answers) } == .unexpectedAnswer("/b"))
    }

    @Test func listenerAnswersInOnePiece() throws {
        var listener = MultistreamListener()
        #expect(listener.takeOutput() == [])
        let progress = try listen(&listener, header + line("/a") + [1, 2])
        #expect(progress == MultistreamProgress(consumed: header.count + 4, agreed: "/a"))
        #expect(listener.takeOutput() == header + line("/a"))
    }

    @Test func headerAloneIsAnsweredAtOnce() throws {
        var listener = MultistreamListener()
        _ = try listen(&listener, header)
        #expect(listener.takeOutput() == header)
        _ = try listen(&listener, line("/a"))
        #expect(listener.takeOutput() == line("/a"))
    }

    @Test func bothSidesMaySendTheirHeadersAtOnce() throws {
        var dialer = MultistreamDialer(proposals: ["/a"])
        var listener = MultistreamListener()
        // The listener of another implementation that speaks first.
        _ = try dial(&dialer, header)
        _ = try listen(&listener, dialer.takeOutput())
        let answer = listener.takeOutput()
        #expect(try dial(&dialer, Array(answer.dropFirst(header.count))).agreed == "/a")
    }

    @Test func listIsAnsweredWithNotAvailable() throws {
        var listener = MultistreamListener()
        _ = try listen(&listener, header + line("ls") + line("/a"))
        #expect(listener.takeOutput() == header + line("na") + line("/a"))
    }

    @Test func negotiationIsTheSameInAnyPieces() throws {
        let stream =
            header + line("/unknown") + line("/" + String(repeating: "y", count: 300)) + line("/a") + [1, 2, 3]
        try DecoderVerifier.verify(stream, expecting: ["/a", "byte 1", "byte 2", "byte 3"]) { listening(for: ["/a"]) }
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\u{16}\u{3}\u{1}", "\u{13}/multistream/2.0.0\n",
        "\u{13}/MULTISTREAM", "\0",
    ])
    func garbageIsRefusedAtItsFirstWrongByteAndUnanswered(_ text: String) {
        var listener = MultistreamListener()
        let bytes = Array(text.utf8)
        #expect(failure { () throws(MultistreamError) in try listen(&listener, bytes) } == .notMultistream)
        #expect(listener.takeOutput() == [])
    }

    /// hostile-inputs 18: a length is checked before anything is kept.
    @Test func oversizedAndMalformedLinesAreRefused() throws {
        let limit = MultistreamMessage.lengthLimit
        let cases: [([UInt8], MultistreamError)] = [
            (Varint.encode(UInt64(limit) + 1), .lineTooLong(length: UInt64(limit) + 1, limit: limit)),
            (Varint.encode(UInt64(Int64.max)), .lineTooLong(length: UInt64(Int64.max), limit: limit)),
            ([UInt8](repeating: 0xFF, count: 10), .malformedLine),
            ([0x83, 0x00, 0x6E, 0x61, 0x0A], .malformedLine),
            ([0], .malformedLine),
            ([3, 0x6E, 0x61, 0x61], .malformedLine),
        ]
        for (bytes, expected) in cases {
            var listener = MultistreamListener()
            let error = failure { () throws(MultistreamError) in try listen(&listener, header + bytes) }
            #expect(error == expected)
            var dialer = MultistreamDialer(proposals: ["/a"])
            #expect(failure { () throws(MultistreamError) in try dial(&dialer, header + bytes) } == expected)
        }
        // The longest line that is allowed.
        var listener = MultistreamListener()
        let longest = "/" + String(repeating: "z", count: limit - 2)
        #expect(try listen(&listener, header + line(longest), [longest]).agreed == longest)
    }

    @Test func endlessProposalsAreRefused() throws {
        var listener = MultistreamListener()
        _ = try listen(&listener, header)
        for _ in 0..<MultistreamListener.proposalLimit { _ = try listen(&listener, line("/x")) }
        let error = failure { () throws(MultistreamError) in try listen(&listener, line("/x")) }
        #expect(error == .tooManyProposals(limit: 64))
    }

    @Test func proposalThatIsNotTextIsNotAvailable() throws {
        var listener = MultistreamListener()
        _ = try listen(&listener, header + [3, 0xC3, 0x28, 0x0A])
        #expect(listener.takeOutput() == header + line("na"))
    }
}

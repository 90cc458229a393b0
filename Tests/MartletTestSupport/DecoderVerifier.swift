import MartletCore

/// Feeds a decoder the same bytes in many ways and checks that it makes the same of them.
///
///     try DecoderVerifier.verify(stream, expecting: ["/a", "/b"]) {
///         var decoder = LineDecoder()
///         return { chunk in try decoder.lines(in: chunk) }
///     }
///
/// Every decoder that meets the network is put through this: whole, byte by byte, in random pieces, cut short at every
/// place, and with the rest of its input made as long as can be claimed.
public enum DecoderVerifier {
    /// What went wrong, and with which pieces.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// Checks a stream decoder: pieces in, what became complete out.
    ///
    /// - Parameters:
    ///   - stream: a valid input.
    ///   - expected: everything that it decodes to.
    ///   - makeDecoder: a fresh decoder each time. It may throw for a piece; for a valid stream it must not, wherever it
    ///     is cut.
    public static func verify<Output: Equatable>(
        _ stream: [UInt8], expecting expected: [Output], seed: UInt64 = 1,
        makeDecoder: () -> ((ArraySlice<UInt8>) throws -> [Output])
    ) throws {
        func run(_ sizes: some Sequence<Int>, _ what: String) throws {
            let decode = makeDecoder()
            var output: [Output] = []
            var position = 0
            for size in sizes where position < stream.count {
                let end = min(stream.count, position + size)
                do {
                    output += try decode(stream[position..<end])
                } catch {
                    throw Failure(description: "\(what): refused at bytes \(position)..<\(end): \(error)")
                }
                position = end
            }
            guard output == expected else {
                throw Failure(description: "\(what): decoded to \(output) instead of \(expected)")
            }
        }
        try run([stream.count], "whole")
        try run(repeatElement(1, count: stream.count), "byte by byte")
        var random = RandomSource(seed: seed)
        for round in 0..<20 {
            let sizes = (0..<stream.count).map { _ in Int.random(in: 1...17, using: &random) }
            try run(sizes, "in random pieces, round \(round)")
        }
        for cut in 0..<stream.count {
            let decode = makeDecoder()
            let output: [Output]
            do {
                output = try decode(stream[0..<cut])
            } catch {
                throw Failure(description: "cut to \(cut) bytes: refused: \(error)")
            }
            guard output.count <= expected.count, output.elementsEqual(expected.prefix(output.count)) else {
                throw Failure(description: "cut to \(cut) bytes: decoded to \(output)")
            }
        }
    }

    /// Checks a decoder of whole messages: the message decodes, and nothing shorter does.
    public static func verifyMessage<Output: Equatable>(
        _ message: [UInt8], expecting expected: Output, decode: ([UInt8]) throws -> Output
    ) throws {
        let output = try decode(message)
        guard output == expected else {
            throw Failure(description: "decoded to \(output) instead of \(expected)")
        }
        for cut in 0..<message.count {
            guard (try? decode(Array(message[0..<cut]))) == nil else {
                throw Failure(description: "cut to \(cut) of \(message.count) bytes it still decodes")
            }
        }
    }

    /// Checks that every one of `inputs` is refused.
    public static func verifyRefused<Output>(_ inputs: [[UInt8]], decode: ([UInt8]) throws -> Output) throws {
        for (index, input) in inputs.enumerated() {
            if let output = try? decode(input) {
                throw Failure(description: "input \(index) of \(input.count) bytes decodes to \(output)")
            }
        }
    }
}

import MartletCore
import TemporaryFiles
import Testing

@testable import MartletContent

@Suite struct SafetensorsTests {
    func header(_ text: String, data: Int) throws -> SafetensorsHeader {
        let json = Array(text.utf8)
        return try SafetensorsHeader(json: json, fileByteCount: UInt64(8 + json.count + data))
    }

    @Test func tensorsAreListedInTheOrderOfTheirBytes() throws {
        let text = """
            {"__metadata__":{"format":"pt"},"b.w\\u00e9":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},\
            "a" : { "shape" : [] , "dtype" : "F32", "data_offsets" : [ 0 , 4 ] },\
            "empty":{"dtype":"I64","shape":[0,5],"data_offsets":[16,16]}}   
            """
        let header = try header(text, data: 16)
        #expect(header.tensors.map(\.name) == ["a", "b.wé", "empty"])
        #expect(header.tensors.map(\.shape) == [[], [2, 3], [0, 5]])
        #expect(header.tensors.map(\.type) == [.float32, .float16, .int64])
        #expect(header.metadata == ["format": "pt"])
        let start = 8 + UInt64(text.utf8.count)
        #expect(header.byteCount == start)
        #expect(header.tensors[1].range == start + 4..<start + 16)
    }

    @Test(arguments: [
        "", " {}", "[]", "{", "{}x", #"{"a":1}"#, #"{"a":{}}"#, #"{"a":{"dtype":"F32","shape":[1]}}"#,
        #"{"a":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}"#,
        #"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        #"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
        #"{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[9223372036854775808,2],"data_offsets":[0,4]}}"#,
        #"{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}"#,
        #"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#,
        #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}}"#,
        #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#,
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        #"{"a\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        #"{"__metadata__":{"a":{"b":1}},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
    ])
    func whatTheFormatForbidsIsRefused(text: String) {
        #expect(throws: DecodingError.self) { try header(text, data: 4) }
    }

    @Test func deepNestingIsNoProblem() {
        let text = String(repeating: #"{"a":"#, count: 100_000)
        #expect(throws: DecodingError.self) { try header(text, data: 4) }
    }

    @Test func absurdLengthsAreRefusedBeforeReading() async throws {
        let directory = TemporaryDirectory()
        for (bytes, name) in [
            ([UInt8](repeating: 0xFF, count: 8), "huge"), ([1, 2, 3], "short"), ([200, 0, 0, 0, 0, 0, 0, 0], "beyond"),
        ] {
            directory.write(bytes, to: name)
            let error = await #expect(throws: ContentError.self) {
                try await SafetensorsHeader.read(directory.file(name), executor: DirectExecutor())
            }
            #expect(error?.code == .malformedFile)
        }
        let json = Array(#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#.utf8)
        directory.write([UInt8(json.count), 0, 0, 0, 0, 0, 0, 0] + json + [1, 2, 3, 4], to: "good")
        let header = try await SafetensorsHeader.read(directory.file("good"), executor: DirectExecutor())
        #expect(header.tensors.count == 1)
    }
}

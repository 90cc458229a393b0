import MartletTestSupport
import Testing

@Suite struct QUICComplianceTests {
    @Test(arguments: MuxerCompliance.checks) func complies(_ check: MuxerCompliance.Check) throws {
        try check.body(QUICHarness.established())
    }
}

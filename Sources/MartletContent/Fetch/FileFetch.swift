public import MartletCore
import Synchronization

/// Fetches a file by its root from several peers at once, verifies every leaf before it counts, and writes it straight to
/// its place in the destination.
///
///     let result = try await FileFetch.run(root: cid, to: "/models/model.safetensors", from: peers, executor: pool) {
///         if case .progress(let progress) = $0 { show(progress) }
///     }
///
/// Interrupted in whatever way (cancelled, killed, disk full, no peer left), it leaves `NAME.part` and a journal, and the
/// same call goes on from there, after verifying again what is in the part file.
public enum FileFetch {
    /// - Parameter events: called on any thread, in order for each peer; must not block.
    /// - Throws: `ContentError`.
    public static func run(
        root: CID, to path: String, from sources: [FetchSource], executor: any BlockingExecutor,
        options: FetchOptions = FetchOptions(), events: @escaping @Sendable (FetchEvent) -> Void = { _ in }
    ) async throws -> FetchResult {
        guard !sources.isEmpty else { throw ContentError(.noPeersLeft, "no peer to fetch \(root) from") }
        guard sources.count <= options.plan.maximumPeers else {
            throw ContentError(.noPeersLeft, "\(sources.count) peers, \(options.plan.maximumPeers) are possible")
        }
        // What is wrong with the root or the destination is known before anybody is asked.
        _ = try ManifestBuilder(root: root, limits: options.graphLimits)
        let destination = try await executor.run {
            try DestinationFile(path: path, replacing: options.replacesExisting)
        }
        let coordinator = FetchCoordinator(root: root, options: options, events: events)
        coordinator.setMembers(
            sources.enumerated().map { FetchCoordinator.Member(source: $1, slot: FetchPlan.Peer(index: $0)) })
        let work = ByteSemaphore(byteCount: options.workByteCount)
        await withTaskCancellationHandler {
            await withTaskGroup(of: Void.self) { group in
                for member in coordinator.members {
                    let conversation = FetchConversation(
                        member: member, coordinator: coordinator, destination: destination, executor: executor,
                        work: work)
                    group.addTask { await conversation.run() }
                    guard let moves = member.source.moves else { continue }
                    group.addTask { for await _ in moves { coordinator.moved(member) } }
                }
                group.addTask { await tick(coordinator) }
                group.addTask {
                    // Its own task, so that the end of the fetch is seen while leaves are being verified.
                    await prepare(coordinator, destination, executor)
                }
                while coordinator.outcome == nil { await coordinator.milestone.wait() }
                group.cancelAll()
                work.close()
            }
        } onCancel: {
            coordinator.end(.failure(ContentError(.cancelled, "cancelled", path: path)))
        }
        if case .failure(let error) = coordinator.outcome { throw error }
        return try await finish(coordinator, destination, path, executor)
    }

    /// Waits for the graph, makes room for the file, and verifies what an earlier run left.
    private static func prepare(
        _ coordinator: FetchCoordinator, _ destination: DestinationFile, _ executor: any BlockingExecutor
    ) async {
        guard let manifest = await coordinator.waitForManifest() else { return }
        do {
            let noted = try await executor.run {
                try destination.prepare(
                    root: manifest.root, byteCount: manifest.byteCount, leafCount: manifest.leaves.count)
            }
            coordinator.events(
                .planned(
                    byteCount: manifest.byteCount, leafCount: manifest.leaves.count, notedLeafCount: noted.count))
            coordinator.start(
                FetchPlan(
                    sizes: FetchPlan.LeafSizes(manifest), local: noted, configuration: coordinator.options.plan,
                    now: .systemNow()))
            try await verifyLocal(noted, manifest, coordinator, destination, executor)
        } catch let error as ContentError {
            coordinator.end(.failure(error))
        } catch {
            coordinator.end(.failure(ContentError(ofExecutor: error)))
        }
    }

    /// Reads noted leaves back, a few at a time so that the network's leaves get their turn.
    private static func verifyLocal(
        _ noted: [Int], _ manifest: Manifest, _ coordinator: FetchCoordinator, _ destination: DestinationFile,
        _ executor: any BlockingExecutor
    ) async throws {
        // The size of a single leaf is not known: it is fetched again.
        let isKnown = manifest.byteCount != nil
        for start in stride(from: 0, to: noted.count, by: 8) {
            guard !coordinator.isOver else { return }
            let part = noted[start..<min(start + 8, noted.count)]
            let valid = try await executor.run { () throws -> [Bool] in
                try part.map { leaf in
                    let expected = manifest.leaves[leaf]
                    let holds =
                        isKnown
                        ? try destination.holds(
                            expected.digest, at: expected.offset, byteCount: Int(expected.byteCount)) : false
                    if !holds { try destination.forget(leaf) }
                    return holds
                }
            }
            coordinator.withPlan { plan, now in
                for (leaf, isValid) in zip(part, valid) { plan.localLeaf(leaf, isValid: isValid, now: now) }
            }
        }
    }

    /// Tells the plan the time, watches over silent structures, and reports progress.
    private static func tick(_ coordinator: FetchCoordinator) async {
        let interval = coordinator.options.progressInterval
        while !coordinator.isOver {
            try? await Task.sleep(for: interval)
            guard !coordinator.isOver, !Task.isCancelled else { return }
            let now = Instant.systemNow()
            for member in coordinator.members {
                let since = member.state.withLock { $0.structureSilentSince }
                if let since, now - since > coordinator.options.plan.stallTimeout { member.reset(.stalled) }
            }
            let progress = coordinator.withPlan { plan, now in
                plan.tick(now: now)
                return plan.progress(now: now)
            }
            if let progress { coordinator.events(.progress(progress)) }
        }
    }

    private static func finish(
        _ coordinator: FetchCoordinator, _ destination: DestinationFile, _ path: String,
        _ executor: any BlockingExecutor
    ) async throws -> FetchResult {
        guard let manifest = coordinator.manifest else {
            throw ContentError(.invalidGraph, "complete without a graph")
        }
        if let progress = coordinator.withPlan({ plan, now in plan.progress(now: now) }) {
            coordinator.events(.progress(progress))
        }
        coordinator.events(.verified)
        let byteCount = manifest.byteCount ?? destination.notedByteCount
        let options = coordinator.options
        let identity = try await executor.run {
            try destination.complete(
                byteCount: byteCount, replacing: options.replacesExisting, syncs: options.syncsToDisk)
        }
        let resumed = coordinator.withPlan { plan, now in plan.progress(now: now).resumedByteCount } ?? 0
        let peers = coordinator.members.map { member in
            (
                name: member.source.name,
                byteCount: coordinator.withPlan { plan, _ in plan.verifiedByteCount(of: member.slot) } ?? 0
            )
        }
        return FetchResult(
            root: coordinator.root, path: path, byteCount: byteCount, resumedByteCount: resumed, peers: peers,
            manifest: manifest, identity: identity)
    }
}

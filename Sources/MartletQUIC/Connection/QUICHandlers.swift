import CNgtcp2
import MartletCore

/// The functions by which the library calls a connection back. The context is the connection, which owns the library's object
/// and therefore outlives every call.
enum QUICHandlers {
    // Filled once, then only read.
    nonisolated(unsafe) static let table: UnsafePointer<mq_handlers> = {
        let table = UnsafeMutablePointer<mq_handlers>.allocate(capacity: 1)
        table.initialize(to: handlers)
        return UnsafePointer(table)
    }()

    private static var handlers: mq_handlers {
        mq_handlers(
            random: { connection($0).random.fill(UnsafeMutableRawBufferPointer(start: $1, count: $2)) },
            make_id: { connection($0).makeID(UnsafeMutableRawBufferPointer(start: $1, count: $2)) },
            id_added: { connection($0).idAdded(QUICConnectionID($1, $2)) },
            id_removed: { connection($0).idRemoved(QUICConnectionID($1, $2)) },
            verify: { context, certificate, length, count in
                let bytes = Array(UnsafeBufferPointer(start: certificate, count: length))
                return connection(context).verify(bytes, count: count) ? 0 : 1
            },
            handshake_completed: { connection($0).handshakeCompleted() ? 0 : 1 },
            stream_opened: { connection($0).opened($1) },
            stream_data: { context, stream, bytes, count, isEnd in
                connection(context).received(
                    stream, UnsafeRawBufferPointer(start: bytes, count: count), isEnd: isEnd != 0)
            },
            stream_acked: { connection($0).acknowledged($1, upTo: $2) },
            stream_reset: { connection($0).resetByPeer($1) },
            stream_closed: { connection($0).closedByLibrary($1) },
            stream_has_room: { connection($0).hasRoom($1) },
            path_changed: { context, remote in
                guard let remote else { return }
                connection(context).moved(to: QUICAddress(remote.pointee))
            },
            next_data: { context, pieces, limit, count, isEnd in
                guard let pieces, let count, let isEnd else { return -1 }
                return connection(context).nextData(pieces, limit: limit, count: &count.pointee, isEnd: &isEnd.pointee)
            },
            data_taken: { connection($0).dataTaken($1, $2, isEnd: $3 != 0, $4) })
    }
}

private func connection(_ context: UnsafeMutableRawPointer?) -> QUICConnection {
    guard let context else { preconditionFailure("a call of the library without a connection") }
    return Unmanaged<QUICConnection>.fromOpaque(context).takeUnretainedValue()
}

extension QUICConnection {
    fileprivate func makeID(_ bytes: UnsafeMutableRawBufferPointer) {
        random.fill(bytes)
        if !bytes.isEmpty { endpoint?.member.claim(&bytes[0]) }
    }

    fileprivate func idAdded(_ id: QUICConnectionID?) {
        guard let id else { return }
        ids.append(id)
        endpoint?.register(id, for: self)
    }

    fileprivate func idRemoved(_ id: QUICConnectionID?) {
        guard let id else { return }
        ids.removeAll { $0 == id }
        endpoint?.unregister(id)
    }

    fileprivate func moved(to address: QUICAddress) {
        guard address != remoteAddress else { return }
        endpoint?.moved(self, to: address)
    }
}

#pragma once
// C that Swift cannot express: thread-locals, GNU extensions and macros with arguments. Each function says why it is here.
#include <stddef.h>
#include <stdint.h>

#include "files.h"
// No system header that declares types which Swift gets from its own C library module: they would belong to this one.

/// The event loop whose role the calling thread holds, or NULL. A thread-local must live in a C target: in a header
/// it would exist once per object file.
void *martlet_current_loop(void);
void martlet_set_current_loop(void *loop);

/// The event loop in whose pool the calling thread works, with or without the role, or NULL.
void *martlet_worker_loop(void);
void martlet_set_worker_loop(void *loop);

/// Names the calling thread for debuggers and `ps -L` (a GNU extension); at most 15 bytes are kept.
void martlet_name_thread(const char *name);

/// Has the calling thread run in slices of that many nanoseconds among threads of the usual kind that want its processor, where the
/// system lets a thread choose (Linux 6.12 and later; a system call without a wrapper, and a structure that headers of the C
/// library lack). Returns the slice that it has now, or 0 where it has no choice.
uint64_t martlet_set_slice(uint64_t nanoseconds);
/// The calling thread's slice; 0 where that is not told.
uint64_t martlet_slice(void);

/// `address` is a sockaddr_storage. accept4 with SOCK_NONBLOCK and SOCK_CLOEXEC where it exists (a GNU extension).
int martlet_accept(int descriptor, void *address, unsigned int *length);

/// A new socket that does not block and is not inherited by child processes (flags that are no plain integers everywhere).
int martlet_socket(int family, int type);

/// A descriptor that is readable when addresses of this machine, its links or its IPv4 routes change (netlink, whose types the Glibc
/// module does not show to Swift); -1 where there is none. `martlet_drain_address_events` reads what there is.
int martlet_open_address_events(void);
void martlet_drain_address_events(int descriptor);

/// Has a connected TCP socket control congestion by the algorithm of that name, if the kernel has it and the path's round trip is at
/// least that many microseconds.
void martlet_control_congestion(int descriptor, unsigned int round_trip, const char *name);

/// A descriptor that wakes a poller: an eventfd, or a pipe where there is none. Returns 0, or the errno.
int martlet_wake_open(int descriptors[2]);
void martlet_wake_send(const int descriptors[2]);
void martlet_wake_drain(const int descriptors[2]);
void martlet_wake_close(int descriptors[2]);

/// Many datagrams by one system call (recvmmsg and sendmmsg are GNU extensions). A batch is scratch space for one
/// thread at a time and holds up to MARTLET_BATCH_LIMIT entries.
#define MARTLET_BATCH_LIMIT 64
typedef struct martlet_batch martlet_batch;
martlet_batch *martlet_batch_create(void);
void martlet_batch_destroy(martlet_batch *batch);

/// Receives up to `count` datagrams into `count` slots of `slot` bytes at `base`; returns how many, or minus the errno.
int martlet_batch_receive(martlet_batch *batch, int descriptor, void *base, size_t slot, int count);
size_t martlet_batch_length(const martlet_batch *batch, int index);
int martlet_batch_is_truncated(const martlet_batch *batch, int index);
/// The size of the datagrams of which the kernel has joined several in this entry, the last of which may be shorter; 0 for one.
size_t martlet_batch_segment(const martlet_batch *batch, int index);
const void *martlet_batch_address(const martlet_batch *batch, int index, unsigned int *length);

/// Puts one datagram at `index`; the memory must stay until the send. A NULL address is for connected sockets.
void martlet_batch_put(martlet_batch *batch, int index, const void *base, size_t length, const void *address,
    unsigned int address_length);
/// Sends `length` bytes as datagrams of `segment` bytes each, which the kernel cuts; the last may be shorter. Returns 0, or minus
/// the errno: EOPNOTSUPP where kernels cannot do that.
int martlet_send_segments(int descriptor, const void *base, size_t length, size_t segment, const void *address,
    unsigned int address_length);
/// Has the kernel join datagrams that arrive together, and never cut those that are sent. Each as far as the system can.
void martlet_prepare_segments(int descriptor, int is_ip6);
/// Lets several UDP sockets of this user share a port, or lets no more join (SO_REUSEPORT on Linux, where it spreads datagrams over
/// them; elsewhere EOPNOTSUPP). Returns 0, or the errno.
int martlet_share_port(int descriptor, int is_shared);
/// Has the kernel choose among the `count` sockets that share the port of this one by the connection id of QUIC in a datagram: its
/// first byte modulo `count` is the place of the socket in the order of binding. What has no bit 0x40 in its first byte, or is too
/// short, is for the first. (A filter of the kernel, whose structures the Glibc module does not show.) Returns 0, or the errno.
int martlet_steer_by_connection_id(int descriptor, unsigned int count);
/// Sends entries `first` up to `first + count`; returns how many went out, or minus the errno of the first of them.
int martlet_batch_send(martlet_batch *batch, int descriptor, int first, int count);

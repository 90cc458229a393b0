#define _GNU_SOURCE
#include "CMartlet.h"
#include <pthread.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static _Thread_local void *current_loop = 0;
static _Thread_local void *worker_loop = 0;

void *martlet_current_loop(void) { return current_loop; }
void martlet_set_current_loop(void *loop) { current_loop = loop; }
void *martlet_worker_loop(void) { return worker_loop; }
void martlet_set_worker_loop(void *loop) { worker_loop = loop; }

void martlet_name_thread(const char *name) {
#if defined(__APPLE__)
    pthread_setname_np(name);
#else
    pthread_setname_np(pthread_self(), name);
#endif
}

#if defined(__linux__) && defined(SYS_sched_setattr)
/// struct sched_attr of linux/sched/types.h, whose name newer C libraries have, too.
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/// 0 when the thread is scheduled in another way than most, or the system does not say how.
static int get_scheduling(struct scheduling *now) {
    *now = (struct scheduling){.size = sizeof *now};
    // 0 is SCHED_OTHER.
    return syscall(SYS_sched_getattr, 0, now, sizeof *now, 0) == 0 && now->policy == 0;
}

uint64_t martlet_slice(void) {
    struct scheduling now;
    return get_scheduling(&now) ? now.runtime : 0;
}

uint64_t martlet_set_slice(uint64_t nanoseconds) {
    struct scheduling wanted;
    // Older systems say 0, and take no slice.
    if (!get_scheduling(&wanted) || wanted.runtime == 0) return 0;
    wanted.size = sizeof wanted;
    wanted.runtime = nanoseconds;
    syscall(SYS_sched_setattr, 0, &wanted, 0);
    return martlet_slice();
}
#else
uint64_t martlet_slice(void) { return 0; }
uint64_t martlet_set_slice(uint64_t nanoseconds) { return 0; }
#endif

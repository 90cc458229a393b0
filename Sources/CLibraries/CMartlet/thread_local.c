#define _GNU_SOURCE
#include "CMartlet.h"
#include <pthread.h>

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

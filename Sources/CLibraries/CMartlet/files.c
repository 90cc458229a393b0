#ifdef __linux__
#define _GNU_SOURCE
#endif
#include "include/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int martlet_allocate(int descriptor, int64_t offset, int64_t length) {
#ifdef __linux__
    int result;
    do {
        result = fallocate(descriptor, 0, offset, length);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
#else
    (void)descriptor;
    (void)offset;
    (void)length;
    return EOPNOTSUPP;
#endif
}

void martlet_start_writeback(int descriptor, int64_t offset, int64_t length) {
#ifdef __linux__
    sync_file_range(descriptor, offset, length, SYNC_FILE_RANGE_WRITE);
#else
    (void)descriptor;
    (void)offset;
    (void)length;
#endif
}

int martlet_rename_exclusively(const char *from, const char *to) {
#ifdef __linux__
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
    // File systems without the flag answer EINVAL; there, look first.
    if (errno != EINVAL && errno != ENOSYS) return errno;
#endif
    if (access(to, F_OK) == 0) return EEXIST;
    return rename(from, to) == 0 ? 0 : errno;
}

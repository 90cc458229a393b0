#pragma once
// GNU extensions for files, which the Glibc module does not show to Swift.
#include <stdint.h>

/// Claims disk blocks for a range of a file. 0, or an errno; EOPNOTSUPP where the system or the file system cannot.
int martlet_allocate(int descriptor, int64_t offset, int64_t length);

/// Starts writing a range of a file back to the disk without waiting for it, so that a later fsync finds little to do.
void martlet_start_writeback(int descriptor, int64_t offset, int64_t length);

/// Renames unless the new name exists. 0, or an errno.
int martlet_rename_exclusively(const char *from, const char *to);

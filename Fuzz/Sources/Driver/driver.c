// SwiftPM makes a program's `main` an alias of `<Target>_main`, so libFuzzer's own main is never taken. These do its work:
// one for each target; Package.swift defines MAINS as MAIN(FuzzA) MAIN(FuzzB) and so on.
#include "driver.h"

extern int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size);
extern int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const unsigned char *, unsigned long));

#define MAIN(target) \
    int target##_main(int argc, char **argv) { return LLVMFuzzerRunDriver(&argc, &argv, LLVMFuzzerTestOneInput); }

MAINS

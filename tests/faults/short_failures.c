/* Preloaded into a process: file operations on some paths fail with an error of the file system's, a number of times.

   SHORT_FAILURES   file; one byte for each failure that is still to come, shared by all processes
   SHORT_PATH       part of the paths that are struck
   SHORT_CALL       open, stat or read
   SHORT_ERRNO      number of the error
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int strikes(const char *call, const char *path) {
    const char *left = getenv("SHORT_FAILURES"), *part = getenv("SHORT_PATH"), *wanted = getenv("SHORT_CALL");
    if (!left || !part || !wanted || strcmp(call, wanted) || !path || !strstr(path, part)) return 0;
    int saved = errno, struck = 0;
    int file = syscall(SYS_openat, AT_FDCWD, left, O_RDWR | O_CLOEXEC);
    if (file >= 0) {
        flock(file, LOCK_EX);
        off_t size = lseek(file, 0, SEEK_END);
        if (size > 0 && ftruncate(file, size - 1) == 0) struck = 1;
        syscall(SYS_close, file);
    }
    errno = struck ? atoi(getenv("SHORT_ERRNO")) : saved;
    return struck;
}

static int strikes_file(const char *call, int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int saved = errno;
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = saved;
    if (n < 0) return 0;
    path[n] = 0;
    return strikes(call, path);
}

#define NEXT(type, name) __typeof__(type) next = (__typeof__(type))dlsym(RTLD_NEXT, name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(int (*)(const char *, int, ...), #name); \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        return strikes("open", path) ? -1 : next(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        NEXT(int (*)(int, const char *, int, ...), #name); \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        return strikes("open", path) ? -1 : next(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        NEXT(FILE *(*)(const char *, const char *), #name); \
        return strikes("open", path) ? NULL : next(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

#define STAT(name) \
    int name(const char *path, void *found) { \
        NEXT(int (*)(const char *, void *), #name); \
        return strikes("stat", path) ? -1 : next(path, found); \
    }
STAT(stat)
STAT(stat64)
STAT(lstat)

/* As older programs call it. */
#define XSTAT(name) \
    int name(int version, const char *path, void *found) { \
        NEXT(int (*)(int, const char *, void *), #name); \
        return strikes("stat", path) ? -1 : next(version, path, found); \
    }
XSTAT(__xstat)
XSTAT(__xstat64)
XSTAT(__lxstat)

#define STATAT(name) \
    int name(int folder, const char *path, void *found, int flags) { \
        NEXT(int (*)(int, const char *, void *, int), #name); \
        return strikes("stat", path) ? -1 : next(folder, path, found, flags); \
    }
STATAT(fstatat)
STATAT(fstatat64)

int statx(int folder, const char *path, int flags, unsigned mask, void *found) {
    NEXT(int (*)(int, const char *, int, unsigned, void *), "statx");
    return strikes("stat", path) ? -1 : next(folder, path, flags, mask, found);
}

#define READ(name) \
    ssize_t name(int file, void *to, size_t size) { \
        NEXT(ssize_t (*)(int, void *, size_t), #name); \
        return strikes_file("read", file) ? -1 : next(file, to, size); \
    }
READ(read)

#define PREAD(name) \
    ssize_t name(int file, void *to, size_t size, off_t at) { \
        NEXT(ssize_t (*)(int, void *, size_t, off_t), #name); \
        return strikes_file("read", file) ? -1 : next(file, to, size, at); \
    }
PREAD(pread)
PREAD(pread64)

ssize_t readv(int file, const void *to, int n) {
    NEXT(ssize_t (*)(int, const void *, int), "readv");
    return strikes_file("read", file) ? -1 : next(file, to, n);
}
ssize_t preadv(int file, const void *to, int n, off_t at) {
    NEXT(ssize_t (*)(int, const void *, int, off_t), "preadv");
    return strikes_file("read", file) ? -1 : next(file, to, n, at);
}
ssize_t preadv64(int file, const void *to, int n, off_t at) {
    NEXT(ssize_t (*)(int, const void *, int, off_t), "preadv64");
    return strikes_file("read", file) ? -1 : next(file, to, n, at);
}

/*
 * The disk under the program: every change below POWERCUT_ROOT is noted in POWERCUT_JOURNAL.
 *
 * Promised: the journal holds, in the order in which they took effect, all writes (with their
 * data), changes of size, changes of names, and the begin and end of each sync that the program
 * makes through libc below the root. A change is noted and performed under one lock, so whatever
 * stands in the journal before a sync's begin is on the disk at its end. Each record is one
 * write(2), so `kill -9` loses none.
 *
 * Not promised: mmap, io_uring, raw system calls, statically linked programs, and two programs
 * writing at once. The replayer compares the journal with the files that the program left behind,
 * so a change that passed us by is found and does not make a test pass.
 *
 * C and not Rust, because taking libc's place needs `unsafe` throughout. System calls are made
 * directly, so there is no order of loading to get right.
 *
 * POWERCUT_IGNORE_FDATASYNC=<name>   fdatasync of a file created under this name does nothing
 * POWERCUT_RANGE_IS_FDATASYNC=1      sync_file_range does what fdatasync does
 */
#define _GNU_SOURCE
#include "record.h"
#include <stdarg.h>

/* === open === */

static int do_open(int dir, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    struct stat st;
    const char *rel = below(dir, path, buffer);
    if (!rel) {
        int fd = syscall(SYS_openat, dir, path, flags, mode);
        /* An inode number that was ours may have been given to somebody else's file. */
        if (fd >= 0 && ours(fd, &st)) known[slot(st.st_ino)].live = 0;
        return fd;
    }
    enter();
    uint64_t before = inode(dir, path);
    int fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        int at = slot(st.st_ino);
        int created = (flags & O_CREAT) && !before;
        const char *name = strrchr(rel, '/') ? strrchr(rel, '/') + 1 : rel;
        known[at].ino = st.st_ino;
        known[at].live = 1;
        if (created) known[at].ignored = *ignored_name && !strcmp(name, ignored_name);
        struct header h = {.op = OPEN, .ino = st.st_ino};
        h.flags = (created ? CREATED : 0) | (flags & O_TRUNC ? TRUNCATED : 0);
        note(h, rel, NULL, NULL, 0);
    }
    leave();
    return fd;
}

#define MODE(flags, mode)                                                       \
    mode_t mode = 0;                                                            \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                      \
        va_list args;                                                           \
        va_start(args, flags);                                                  \
        mode = va_arg(args, mode_t);                                            \
        va_end(args);                                                           \
    }
int open(const char *p, int flags, ...) { MODE(flags, m) return do_open(AT_FDCWD, p, flags, m); }
int open64(const char *p, int flags, ...) { MODE(flags, m) return do_open(AT_FDCWD, p, flags, m); }
int openat(int d, const char *p, int flags, ...) { MODE(flags, m) return do_open(d, p, flags, m); }
int openat64(int d, const char *p, int flags, ...) { MODE(flags, m) return do_open(d, p, flags, m); }
int creat(const char *p, mode_t m) { return do_open(AT_FDCWD, p, O_CREAT | O_WRONLY | O_TRUNC, m); }
int creat64(const char *p, mode_t m) { return creat(p, m); }

/* === data === */

/* `at` is -1 for a write at the file's own position. */
static ssize_t do_write(int fd, const struct iovec *data, int parts, off_t at) {
    struct stat st;
    int mine = ours(fd, &st);
    ssize_t done, length = 0;
    uint64_t seq = 0;
    if (mine) {
        enter();
        off_t offset = at >= 0 ? at : lseek(fd, 0, SEEK_CUR);
        if ((fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &st) == 0) offset = st.st_size;
        for (int i = 0; i < parts; i++) length += data[i].iov_len;
        struct header h = {.op = WRITE, .ino = st.st_ino, .offset = offset};
        seq = note(h, NULL, NULL, data, parts);
    }
    if (at >= 0) done = syscall(SYS_pwritev, fd, data, parts, at, 0);
    else done = syscall(SYS_writev, fd, data, parts);
    if (mine) {
        struct header h = {.op = SHORT, .ino = st.st_ino, .ref = seq};
        h.length = done < 0 ? 0 : done;
        if (done != length) note(h, NULL, NULL, NULL, 0);
        leave();
    }
    return done;
}

ssize_t write(int fd, const void *p, size_t n) {
    struct stat st; /* the common case, a socket or a pipe, is passed on as it came */
    if (!ours(fd, &st)) return syscall(SYS_write, fd, p, n);
    return do_write(fd, &(struct iovec){(void *)p, n}, 1, -1);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at) {
    return do_write(fd, &(struct iovec){(void *)p, n}, 1, at);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) { return pwrite64(fd, p, n, at); }
ssize_t writev(int fd, const struct iovec *v, int n) { return do_write(fd, v, n, -1); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) { return do_write(fd, v, n, at); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t at) { return do_write(fd, v, n, at); }

/* Refused, so that the caller copies with read and write, whose data we see. */
ssize_t copy_file_range(int in, off_t *i, int out, off_t *o, size_t n, unsigned flags) {
    struct stat st;
    if (ours(out, &st)) return errno = EINVAL, -1;
    return syscall(SYS_copy_file_range, in, i, out, o, n, flags);
}
ssize_t sendfile64(int out, int in, off_t *at, size_t n) {
    struct stat st;
    if (ours(out, &st)) return errno = EINVAL, -1;
    return syscall(SYS_sendfile, out, in, at, n);
}
ssize_t sendfile(int out, int in, off_t *at, size_t n) { return sendfile64(out, in, at, n); }

static int do_size(int fd, struct header h, long (*act)(int, struct header)) {
    struct stat st;
    if (!ours(fd, &st)) return act(fd, h);
    enter();
    int failed = act(fd, h); /* noted afterwards: a change that failed is no change */
    h.ino = st.st_ino;
    if (!failed) note(h, NULL, NULL, NULL, 0);
    leave();
    return failed;
}
static long act_resize(int fd, struct header h) { return syscall(SYS_ftruncate, fd, h.length); }
static long act_allocate(int fd, struct header h) {
    return syscall(SYS_fallocate, fd, h.flags, h.offset, h.length);
}
int ftruncate64(int fd, off_t n) {
    return do_size(fd, (struct header){.op = RESIZE, .length = n}, act_resize);
}
int ftruncate(int fd, off_t n) { return ftruncate64(fd, n); }
int fallocate64(int fd, int mode, off_t at, off_t n) {
    struct header h = {.op = ALLOCATE, .offset = at, .length = n, .flags = mode};
    return do_size(fd, h, act_allocate);
}
int fallocate(int fd, int mode, off_t at, off_t n) { return fallocate64(fd, mode, at, n); }
int posix_fallocate64(int fd, off_t at, off_t n) { return fallocate64(fd, 0, at, n) ? errno : 0; }
int posix_fallocate(int fd, off_t at, off_t n) { return posix_fallocate64(fd, at, n); }
int truncate64(const char *path, off_t n) {
    int fd = do_open(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    int failed = fd < 0 || ftruncate64(fd, n);
    if (fd >= 0) close(fd);
    return failed ? -1 : 0;
}
int truncate(const char *path, off_t n) { return truncate64(path, n); }

/* === syncs === */

static int do_sync(int fd, int number, uint64_t flags) {
    struct stat st;
    if (!ours(fd, &st)) return syscall(number, fd);
    enter();
    int ignored = (flags & DATA_ONLY) && known[slot(st.st_ino)].ignored;
    struct header h = {.op = ignored ? SYNC_IGNORED : SYNC_BEGIN, .ino = st.st_ino, .flags = flags};
    uint64_t begin = note(h, NULL, NULL, NULL, 0);
    leave();
    if (ignored) return 0;
    int failed = syscall(number, fd); /* not under the lock: other threads write meanwhile */
    enter();
    struct header end = {.op = SYNC_END, .ino = st.st_ino, .ref = begin, .length = !failed};
    note(end, NULL, NULL, NULL, 0);
    leave();
    return failed;
}
int fsync(int fd) { return do_sync(fd, SYS_fsync, 0); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync, DATA_ONLY); }
int sync_file_range(int fd, off_t at, off_t n, unsigned flags) {
    struct stat st;
    if (range_is_fdatasync) return fdatasync(fd);
    if (ours(fd, &st)) {
        enter();
        struct header h = {.op = SYNC_RANGE, .ino = st.st_ino, .offset = at, .length = n};
        note(h, NULL, NULL, NULL, 0);
        leave();
    }
    return syscall(SYS_sync_file_range, fd, at, n, flags);
}

/* === names === */

int renameat2(int d1, const char *from, int d2, const char *to, unsigned flags) {
    char b1[PATH_MAX], b2[PATH_MAX];
    const char *r1 = below(d1, from, b1), *r2 = below(d2, to, b2);
    if (!r1 && !r2) return syscall(SYS_renameat2, d1, from, d2, to, flags);
    if (!r1 || !r2) return errno = EXDEV, -1; /* a file would enter or leave the model */
    enter();
    int failed = syscall(SYS_renameat2, d1, from, d2, to, flags);
    struct header h = {.op = RENAME, .flags = flags};
    if (!failed) note(h, r1, r2, NULL, 0);
    leave();
    return failed;
}
int renameat(int d1, const char *from, int d2, const char *to) {
    return renameat2(d1, from, d2, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int d1, const char *from, int d2, const char *to, int flags) {
    char b1[PATH_MAX], b2[PATH_MAX];
    const char *r1 = below(d1, from, b1), *r2 = below(d2, to, b2);
    if (!r1 && !r2) return syscall(SYS_linkat, d1, from, d2, to, flags);
    if (!r1 || !r2) return errno = EXDEV, -1;
    enter();
    int failed = syscall(SYS_linkat, d1, from, d2, to, flags);
    if (!failed) note((struct header){.op = LINK}, r1, r2, NULL, 0);
    leave();
    return failed;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *rel = below(dir, path, buffer);
    if (!rel) return syscall(SYS_unlinkat, dir, path, flags);
    enter();
    int failed = syscall(SYS_unlinkat, dir, path, flags);
    if (!failed) note((struct header){.op = UNLINK}, rel, NULL, NULL, 0);
    leave();
    return failed;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char buffer[PATH_MAX];
    const char *rel = below(dir, path, buffer);
    if (!rel) return syscall(SYS_mkdirat, dir, path, mode);
    enter();
    int failed = syscall(SYS_mkdirat, dir, path, mode);
    if (!failed) note((struct header){.op = MKDIR, .ino = inode(dir, path)}, rel, NULL, NULL, 0);
    leave();
    return failed;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

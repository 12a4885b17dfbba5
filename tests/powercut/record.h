/*
 * Writing the journal: which files lie below the root, and one record for each change of them.
 * Included by disk.c alone, which says what is promised; journal.rs reads what is written here.
 */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The same numbers stand in journal.rs. */
enum { OPEN = 1, WRITE, SHORT, RESIZE, ALLOCATE, SYNC_BEGIN, SYNC_END, SYNC_IGNORED, SYNC_RANGE,
       RENAME, LINK, UNLINK, MKDIR };
enum { CREATED = 1, TRUNCATED = 2, DATA_ONLY = 4 };
#define MAGIC 0x31434a50u /* "PJC1" */

struct header {
    uint32_t magic, op;
    uint64_t seq; /* the record's own offset in the journal: unique and rising, also across runs */
    uint64_t ns;  /* CLOCK_MONOTONIC, before the program learns that it is done */
    uint64_t ino, offset, length, ref, flags;
    uint32_t path_len, path2_len;
    uint64_t data_len;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], ignored_name[NAME_MAX + 1];
static size_t root_len;
static dev_t root_dev;
static int journal = -1, range_is_fdatasync;

static void die(const char *why) {
    dprintf(2, "powercut: %s: %s\n", why, strerror(errno));
    _exit(97); /* an incomplete journal would prove nothing */
}

__attribute__((constructor)) static void start(void) {
    const char *r = getenv("POWERCUT_ROOT"), *j = getenv("POWERCUT_JOURNAL"),
               *i = getenv("POWERCUT_IGNORE_FDATASYNC");
    struct stat st;
    if (!r || !j) return;
    if (!realpath(r, root) || stat(root, &st)) die("POWERCUT_ROOT");
    root_len = strlen(root);
    root_dev = st.st_dev;
    if (i) snprintf(ignored_name, sizeof ignored_name, "%s", i);
    range_is_fdatasync = getenv("POWERCUT_RANGE_IS_FDATASYNC") != NULL;
    int fd = syscall(SYS_openat, AT_FDCWD, j, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) die("POWERCUT_JOURNAL");
    journal = fd;
}

/* === which files are ours: inodes below the root, learned when they are opened === */

#define SLOTS 65536
static struct { uint64_t ino; int live, ignored; } known[SLOTS];

static int slot(uint64_t ino) {
    for (int probe = 0; probe < SLOTS; probe++) {
        int at = (ino + probe) % SLOTS;
        if (known[at].ino == ino || known[at].ino == 0) return at;
    }
    die("too many files");
    return -1;
}

static int ours(int fd, struct stat *st) {
    return journal >= 0 && fstat(fd, st) == 0 && st->st_dev == root_dev &&
           (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) && known[slot(st->st_ino)].live;
}

/* The path below the root ("" is the root itself), or NULL when it is elsewhere. */
static const char *below(int dir, const char *path, char *out) {
    char whole[2 * PATH_MAX], parent[2 * PATH_MAX], link[64];
    int saved = errno;
    const char *result = NULL;
    if (journal < 0 || !path) return NULL;
    if (path[0] == '/') snprintf(whole, sizeof whole, "%s", path);
    else {
        ssize_t n = -1;
        if (dir == AT_FDCWD) n = getcwd(parent, PATH_MAX) ? (ssize_t)strlen(parent) : -1;
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
            n = readlink(link, parent, PATH_MAX);
        }
        if (n < 0) goto done;
        snprintf(whole, sizeof whole, "%.*s/%s", (int)n, parent, path);
    }
    size_t len = strlen(whole);
    while (len > 1 && whole[len - 1] == '/') whole[--len] = 0;
    char *name = strrchr(whole, '/') + 1;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) {
        if (!realpath(whole, out)) goto done;
    } else { /* the last part may not exist yet, and is not followed when it is a link */
        snprintf(parent, sizeof parent, "%.*s", (int)(name - whole), whole);
        if (!realpath(parent, out) || strlen(out) + strlen(name) + 2 > PATH_MAX) goto done;
        if (strcmp(out, "/")) strcat(out, "/");
        strcat(out, name);
    }
    if (!strncmp(out, root, root_len) && (out[root_len] == '/' || !out[root_len]))
        result = out + root_len + (out[root_len] == '/');
done:
    errno = saved;
    return result;
}

/* === the journal === */

/*
 * Around each change and its record. The lock on the journal is for the test: while it holds it
 * alone, no change is half done or done and not noted, and that is when it kills the program.
 */
static void enter(void) {
    pthread_mutex_lock(&lock);
    while (flock(journal, LOCK_SH))
        if (errno != EINTR) die("cannot lock the journal");
}

static void leave(void) {
    int saved = errno;
    flock(journal, LOCK_UN);
    errno = saved;
    pthread_mutex_unlock(&lock);
}

/* Call between enter and leave. Returns the record's number. */
static uint64_t note(struct header h, const char *path, const char *path2,
                     const struct iovec *data, int parts) {
    static struct iovec out[IOV_MAX];
    struct timespec now;
    int saved = errno;
    clock_gettime(CLOCK_MONOTONIC, &now);
    h.magic = MAGIC;
    h.seq = lseek(journal, 0, SEEK_END); /* a child may have written to it meanwhile */
    h.ns = now.tv_sec * 1000000000ull + now.tv_nsec;
    h.path_len = path ? strlen(path) : 0;
    h.path2_len = path2 ? strlen(path2) : 0;
    if (parts + 3 > IOV_MAX) die("too many parts in one write");
    out[0] = (struct iovec){&h, sizeof h};
    out[1] = (struct iovec){(void *)path, h.path_len};
    out[2] = (struct iovec){(void *)path2, h.path2_len};
    for (int i = 0; i < parts; i++) {
        out[3 + i] = data[i];
        h.data_len += data[i].iov_len;
    }
    uint64_t total = sizeof h + h.path_len + h.path2_len + h.data_len;
    if (syscall(SYS_writev, journal, out, parts + 3) != (ssize_t)total)
        die("cannot write the journal");
    errno = saved;
    return h.seq;
}

static uint64_t inode(int dir, const char *path) {
    struct stat st;
    return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) ? 0 : st.st_ino;
}

/* A disk that fails at random: preloaded into a program, it lets some of the program's reads and writes in one folder fail.
 *
 * MAILQOS_FAILING_FOLDER   which folder, as an absolute path
 * MAILQOS_FAILING_RATE     how many of a thousand calls fail
 * MAILQOS_FAILING_COUNT    a file to which a byte is added for each failure
 *
 * A write fails with nothing written, or with half of it (a torn write), or writes half and says so; what is to be synced is
 * not; files can't be made, renamed or read. Either for good (EIO) or for lack of room (ENOSPC). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static const char *folder;
static size_t folder_length;
static unsigned rate;
static int count = -1;
static _Atomic unsigned long long state;

#define REAL(name) ((__typeof__(&name))real_##name)
#define DECLARE(name) static void *real_##name
DECLARE(read); DECLARE(write); DECLARE(fsync); DECLARE(fdatasync); DECLARE(rename); DECLARE(open64); DECLARE(mkdir);

__attribute__((constructor)) static void begin(void) {
#define FIND(name) real_##name = dlsym(RTLD_NEXT, #name)
  FIND(read); FIND(write); FIND(fsync); FIND(fdatasync); FIND(rename); FIND(open64); FIND(mkdir);
  const char *text = getenv("MAILQOS_FAILING_RATE");
  rate = text ? (unsigned)atoi(text) : 0;
  const char *counted = getenv("MAILQOS_FAILING_COUNT");
  if (counted) count = REAL(open64)(counted, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  state = (unsigned long long)now.tv_nsec * 2654435761u + (unsigned long long)getpid() + 88172645463325252ull;
  folder = getenv("MAILQOS_FAILING_FOLDER");
  folder_length = folder ? strlen(folder) : 0;
}

static unsigned random_below(unsigned end) {
  unsigned long long x = atomic_fetch_add(&state, 0x9E3779B97F4A7C15ull);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return (unsigned)((x ^ (x >> 31)) % end);
}

static int inside(const char *path) { return folder_length && strncmp(path, folder, folder_length) == 0; }

/* Whether this call fails. */
static int strikes(void) {
  if (!rate || random_below(1000) >= rate) return 0;
  if (count >= 0 && REAL(write)(count, "x", 1) != 1) count = -1;
  errno = random_below(2) ? EIO : ENOSPC;
  return 1;
}

static int strikes_file(int file) {
  struct stat status;
  char link[64], path[4096];
  if (!folder_length || fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return inside(path) && strikes();
}

ssize_t write(int file, const void *bytes, size_t length) {
  if (strikes_file(file)) {
    int error = errno;
    switch (random_below(3)) {
      case 0: break;
      case 1: if (length > 1) return REAL(write)(file, bytes, length / 2); break;
      default: if (length > 1 && REAL(write)(file, bytes, length / 2) < 0) break;
    }
    errno = error;
    return -1;
  }
  return REAL(write)(file, bytes, length);
}

ssize_t read(int file, void *bytes, size_t length) {
  if (strikes_file(file)) { errno = EIO; return -1; }
  return REAL(read)(file, bytes, length);
}

int fsync(int file) {
  /* Folders are synced, too. */
  struct stat status;
  if (fstat(file, &status) == 0 && S_ISDIR(status.st_mode) && strikes()) return -1;
  return strikes_file(file) ? -1 : REAL(fsync)(file);
}
int fdatasync(int file) { return strikes_file(file) ? -1 : REAL(fdatasync)(file); }
int rename(const char *from, const char *to) { return inside(to) && strikes() ? -1 : REAL(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { return inside(path) && strikes() ? -1 : REAL(mkdir)(path, mode); }

int open64(const char *path, int flags, ...) {
  mode_t mode = 0;
  if (flags & O_CREAT) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  return inside(path) && strikes() ? -1 : REAL(open64)(path, flags, mode);
}

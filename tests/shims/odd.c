/* A file system that lacks what others have: preloaded into a program, it lets calls fail as they do on some network shares and on
 * file systems in user space.
 *
 * MAILQOS_ODD_FOLDER_SYNC   fsync of a folder fails with this errno: EINVAL (22) on CIFS before Linux 4.17 and in user space,
 *                           EOPNOTSUPP (95) on some shares (github.com/libgit2/libgit2/issues/5356, facebook/rocksdb/issues/2929)
 * MAILQOS_ODD_LOCK          flock fails with this errno: ENOLCK (37) on NFS without its lock service, EOPNOTSUPP (95) on shares
 * MAILQOS_ODD_LINK          link fails with this errno: EPERM (1) on FAT and CIFS */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int wanted(const char *name) {
  const char *text = getenv(name);
  return text ? atoi(text) : 0;
}

int fsync(int file) {
  struct stat status;
  int error = wanted("MAILQOS_ODD_FOLDER_SYNC");
  if (error && fstat(file, &status) == 0 && S_ISDIR(status.st_mode)) { errno = error; return -1; }
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  return real(file);
}

int flock(int file, int operation) {
  int error = wanted("MAILQOS_ODD_LOCK");
  if (error) { errno = error; return -1; }
  int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
  return real(file, operation);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
  int error = wanted("MAILQOS_ODD_LINK");
  if (error) { errno = error; return -1; }
  int (*real)(int, const char *, int, const char *, int) =
      (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");
  return real(from, old, to, new, flags);
}

/* Clocks that can be put forward, set, and slept through while a program runs: preloaded, it adds to them what stands in a shared
 * file, and wakes what sleeps when its time has come. Between two changes time runs as it does.
 *
 * MAILQOS_CLOCK   a file of three numbers of 8 bytes each, in nanoseconds; those that are missing are 0:
 *                 0: added to all clocks (time passes);
 *                 8: added to the time of day only (somebody sets the clock, forward or back);
 *                16: added to the time of day and to CLOCK_BOOTTIME, but not to CLOCK_MONOTONIC (the machine was suspended) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ll
/* So soon a leap is noticed by what sleeps. */
#define NOTICED (2 * 1000000ll)

static _Atomic long long none[3], *ahead = none;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_epoll_wait)(int, struct epoll_event *, int, int);
static int (*real_nanosleep)(clockid_t, int, const struct timespec *, struct timespec *);
static long (*real_syscall)(long, ...);

static void begin(void) {
  if (real_gettime) return;
  real_epoll_wait = dlsym(RTLD_NEXT, "epoll_wait");
  real_nanosleep = dlsym(RTLD_NEXT, "clock_nanosleep");
  real_syscall = dlsym(RTLD_NEXT, "syscall");
  const char *path = getenv("MAILQOS_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) {
    void *map = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) ahead = map;
    close(file);
  }
  real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
}
__attribute__((constructor)) static void at_start(void) { begin(); }

/* What is added to a clock. */
static long long added(clockid_t clock) {
  switch (clock) {
  case CLOCK_REALTIME:
  case CLOCK_REALTIME_COARSE:
    return ahead[0] + ahead[1] + ahead[2];
  case CLOCK_BOOTTIME:
    return ahead[0] + ahead[2];
  case CLOCK_MONOTONIC:
  case CLOCK_MONOTONIC_COARSE:
  case CLOCK_MONOTONIC_RAW:
    return ahead[0];
  default:
    return 0;
  }
}
static long long nanoseconds(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }
static struct timespec of(long long nanoseconds) {
  if (nanoseconds < 0) nanoseconds = 0;
  return (struct timespec){.tv_sec = nanoseconds / SECOND, .tv_nsec = nanoseconds % SECOND};
}
static long long real_now(clockid_t clock) {
  struct timespec time;
  begin();
  real_gettime(clock, &time);
  return nanoseconds(&time);
}
static long long now(clockid_t clock) { return real_now(clock) + added(clock); }

int clock_gettime(clockid_t clock, struct timespec *time) {
  begin();
  int result = real_gettime(clock, time);
  if (result == 0) *time = of(nanoseconds(time) + added(clock));
  return result;
}
int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  long long moment = now(CLOCK_REALTIME);
  time->tv_sec = moment / SECOND;
  time->tv_usec = moment % SECOND / 1000;
  return 0;
}
time_t time(time_t *place) {
  time_t moment = now(CLOCK_REALTIME) / SECOND;
  if (place) *place = moment;
  return moment;
}

int epoll_wait(int poll, struct epoll_event *events, int most, int milliseconds) {
  begin();
  if (milliseconds <= 0) return real_epoll_wait(poll, events, most, milliseconds);
  long long end = now(CLOCK_MONOTONIC) + milliseconds * 1000000ll;
  for (;;) {
    long long left = end - now(CLOCK_MONOTONIC);
    if (left <= 0) return real_epoll_wait(poll, events, most, 0);
    long long nap = left < NOTICED ? left : NOTICED;
    int count = real_epoll_wait(poll, events, most, (int)((nap + 999999) / 1000000));
    if (count != 0) return count;
  }
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *rest) {
  (void)rest;
  long long end = nanoseconds(time) + (flags & TIMER_ABSTIME ? 0 : now(clock));
  for (;;) {
    long long left = end - now(clock);
    if (left <= 0) return 0;
    struct timespec nap = of(left < NOTICED ? left : NOTICED);
    real_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
  }
}
int nanosleep(const struct timespec *time, struct timespec *rest) {
  return clock_nanosleep(CLOCK_MONOTONIC, 0, time, rest);
}

/* What waits for another thread, for so long at the most. */
long syscall(long number, ...) {
  va_list rest;
  va_start(rest, number);
  long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long), d = va_arg(rest, long), e = va_arg(rest, long),
       f = va_arg(rest, long);
  va_end(rest);
  begin();
  int command = (int)b & FUTEX_CMD_MASK;
  if (number != SYS_futex || !d || (command != FUTEX_WAIT && command != FUTEX_WAIT_BITSET))
    return real_syscall(number, a, b, c, d, e, f);
  clockid_t clock = (int)b & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
  long long end = nanoseconds((const struct timespec *)d) + (command == FUTEX_WAIT ? now(clock) : 0);
  for (;;) {
    long long left = end - now(clock);
    if (left < 0) left = 0;
    long long nap = left < NOTICED ? left : NOTICED;
    struct timespec until = of(command == FUTEX_WAIT ? nap : real_now(clock) + nap);
    long result = real_syscall(number, a, b, c, (long)&until, e, f);
    if (result != -1 || errno != ETIMEDOUT || left == 0) return result;
  }
}

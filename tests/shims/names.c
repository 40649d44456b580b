/* A network with other names and ports: preloaded into a program, it resolves names to this machine and redirects ports there, so that
 * servers at well-known ports are found without privileges.
 *
 * MAILQOS_NAMES   the names that exist, separated by spaces: 127.0.0.1. All others resolve as usual.
 * MAILQOS_PORTS   pairs PORT=OTHER, separated by spaces: a connection to 127.0.0.1:PORT leads to OTHER. Any other port below 1024 refuses. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int is_listed(const char *name) {
  const char *rest = getenv("MAILQOS_NAMES");
  size_t length = strlen(name);
  while (rest && *rest) {
    size_t word = strcspn(rest, " ");
    if (word == length && strncasecmp(rest, name, length) == 0) return 1;
    rest += word + strspn(rest + word, " ");
  }
  return 0;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
      (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
  return real(name && is_listed(name) ? "127.0.0.1" : name, service, hints, found);
}

/* The port that a connection to `port` leads to; 0 if it refuses. */
static unsigned other(unsigned port) {
  const char *rest = getenv("MAILQOS_PORTS");
  unsigned from, to;
  while (rest && sscanf(rest, "%u=%u", &from, &to) == 2) {
    if (from == port) return to;
    rest += strcspn(rest, " ");
    rest += strspn(rest, " ");
  }
  return port < 1024 ? 0 : port;
}

int connect(int file, const struct sockaddr *address, socklen_t length) {
  int (*real)(int, const struct sockaddr *, socklen_t) =
      (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
  struct sockaddr_in changed;
  if (address->sa_family != AF_INET || length < sizeof changed) return real(file, address, length);
  memcpy(&changed, address, sizeof changed);
  int kind = 0;
  socklen_t size = sizeof kind;
  getsockopt(file, SOL_SOCKET, SO_TYPE, &kind, &size);
  if (kind != SOCK_STREAM || changed.sin_addr.s_addr != htonl(INADDR_LOOPBACK)) return real(file, address, length);
  unsigned port = other(ntohs(changed.sin_port));
  if (port == 0) { errno = ECONNREFUSED; return -1; }
  changed.sin_port = htons(port);
  return real(file, (struct sockaddr *)&changed, sizeof changed);
}

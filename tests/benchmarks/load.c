// The load: many connections of one thread, which count answers and throw their bodies away within the kernel.
//
//   load steady PORT CONNECTIONS SECONDS FILE STATUS LENGTH ONCE   requests one after the other on each connection
//   load crowd PORT CONNECTIONS SECONDS FILE STATUS LENGTH         one request on each connection, all at one instant
//   load slow PORT CONNECTIONS SECONDS FILE BYTES                  readers of so many bytes a second each
//
// FILE holds whole requests, each ended by a NUL. An answer that has not that STATUS or that LENGTH is an error, and so
// is one that is cut off; a LENGTH of -1 is any, and 304 has none. With ONCE = 1 no request is sent twice, and the load
// ends early when all are answered. It goes on until there is an answer, for a minute at most. Prints one line of JSON; times are in seconds. `slow` first prints an empty line
// when every request is sent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 4096, EVENTS = 512, SLOW_BUFFER = 16384, LONGEST = 60 };

typedef struct {
  int fd, head_length, open, asked;
  long left;  // of the body; -1 while the head is awaited
  double began, first, whole;
  char head[HEAD + 1];
} Connection;

typedef struct {
  const char *bytes;
  size_t length;
} Request;

static Request *requests;
static size_t request_count, next_request;
static Connection *connections;
static size_t connection_count;
static int expected_status;
static long expected_length, awaited, answers, errors, body_bytes;
static float *wholes, *firsts;
static size_t latency_room;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void read_requests(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail(path);
  long size = ftell(file);
  rewind(file);
  char *bytes = malloc((size_t)size + 1);
  if (!bytes || fread(bytes, 1, (size_t)size, file) != (size_t)size) fail(path);
  fclose(file);
  size_t count = 0;
  for (long at = 0; at < size; at++) count += bytes[at] == 0;
  requests = calloc(count + 1, sizeof *requests);
  if (!requests) fail("memory");
  for (char *at = bytes; at < bytes + size; at += requests[request_count++].length + 1)
    requests[request_count] = (Request){at, strlen(at)};
  if (!request_count) exit(1);
}

static int connected(int port, int receive_buffer) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  if (fd < 0) fail("socket");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (receive_buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
  return fd;
}

static void connect_all(int port, int receive_buffer) {
  connections = calloc(connection_count, sizeof *connections);
  if (!connections) fail("memory");
  for (size_t n = 0; n < connection_count; n++) {
    connections[n].fd = connected(port, receive_buffer);
    connections[n].open = 1;
  }
}

static int watch_all(void) {
  int poll = epoll_create1(0);
  for (size_t n = 0; n < connection_count; n++) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[n]};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, connections[n].fd, &event)) fail("epoll");
  }
  return poll;
}

static void settle(Connection *c) {
  awaited -= c->asked;
  c->asked = 0;
}

static void close_one(Connection *c) {
  settle(c);
  close(c->fd);
  c->open = 0;
}

static void lose(Connection *c) {
  errors++;
  close_one(c);
}

static void ask(Connection *c, int once) {
  if (next_request == request_count) {
    if (once) {
      close_one(c);
      return;
    }
    next_request = 0;
  }
  Request *r = &requests[next_request++];
  c->left = -1;
  c->head_length = 0;
  c->first = 0;
  c->asked = 1;
  awaited++;
  c->began = now();
  if (send(c->fd, r->bytes, r->length, MSG_NOSIGNAL) != (ssize_t)r->length) lose(c);
}

// Whether the head is whole and the right one; what of the body came with it is counted.
static int read_head(Connection *c) {
  ssize_t got = recv(c->fd, c->head + c->head_length, (size_t)(HEAD - c->head_length), MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return 0;
  if (got <= 0) {
    lose(c);
    return 0;
  }
  if (!c->first) c->first = now();
  c->head_length += (int)got;
  c->head[c->head_length] = 0;
  char *end = memmem(c->head, (size_t)c->head_length, "\r\n\r\n", 4);
  if (!end) {
    if (c->head_length == HEAD) lose(c);
    return 0;
  }
  char *field = strcasestr(c->head, "\r\ncontent-length:");
  int status = c->head_length > 12 ? atoi(c->head + 9) : 0;
  long length = field && field < end ? atol(field + 17) : -1;
  if (status == 304) length = 0;
  if (status != expected_status || length < 0 || (status != 304 && expected_length >= 0 && length != expected_length)) {
    lose(c);
    return 0;
  }
  long with_head = c->head_length - (end + 4 - c->head);
  c->left = length - with_head;
  body_bytes += with_head;
  return 1;
}

static void read_body(Connection *c) {
  // On TCP, MSG_TRUNC takes bytes off the queue and copies none.
  ssize_t got = recv(c->fd, NULL, (size_t)c->left, MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    lose(c);
    return;
  }
  c->left -= got;
  body_bytes += got;
}

static void keep_latency(double first, double whole) {
  if ((size_t)answers >= latency_room) {
    latency_room = latency_room ? latency_room * 2 : 65536;
    wholes = realloc(wholes, latency_room * sizeof *wholes);
    firsts = realloc(firsts, latency_room * sizeof *firsts);
    if (!wholes || !firsts) fail("memory");
  }
  firsts[answers] = (float)first;
  wholes[answers++] = (float)whole;
}

static void take(Connection *c) {
  if (!c->asked) {
    lose(c);  // closed, or more came than was asked for
    return;
  }
  if (c->left < 0 && !read_head(c)) return;
  if (c->left > 0) read_body(c);
  if (c->left < 0 && c->open) {
    lose(c);  // more came than was announced
    return;
  }
  if (c->left == 0 && c->open) {
    c->whole = now();
    settle(c);
    keep_latency(c->first - c->began, c->whole - c->began);
  }
}

static int ascending(const void *one, const void *other) {
  float a = *(const float *)one, b = *(const float *)other;
  return (a > b) - (a < b);
}

static double at_percent(const float *sorted, long percent) {
  return answers ? sorted[answers * percent / 100] : 0;
}

static void report(double took, double busy) {
  qsort(firsts, (size_t)answers, sizeof *firsts, ascending);
  qsort(wholes, (size_t)answers, sizeof *wholes, ascending);
  printf("{\"answers\": %ld, \"errors\": %ld, \"body_bytes\": %ld, \"seconds\": %.6f, \"busy\": %.4f, "
         "\"first_p50\": %.7f, \"first_p99\": %.7f, \"p50\": %.7f, \"p99\": %.7f}\n",
         answers, errors, body_bytes, took, busy, at_percent(firsts, 50), at_percent(firsts, 99),
         at_percent(wholes, 50), at_percent(wholes, 99));
}

static void steady(double seconds, int once, int crowd) {
  struct epoll_event events[EVENTS];
  int poll = watch_all();
  if (crowd) usleep(200000);  // until the server has accepted them
  double cpu_before = cpu(), began = now(), ends = began + seconds, last = began;
  for (size_t n = 0; n < connection_count; n++) {
    ask(&connections[n], once);
    if (crowd) connections[n].began = began;
  }
  while ((last < ends || (!answers && last < began + LONGEST)) && awaited) {
    int count = epoll_wait(poll, events, EVENTS, 100);
    for (int n = 0; n < count; n++) {
      Connection *c = events[n].data.ptr;
      take(c);
      if (!c->open || c->asked) continue;
      if (crowd)
        close_one(c);
      else
        ask(c, once);
    }
    last = now();
  }
  if (crowd) errors += awaited;
  report(last - began, (cpu() - cpu_before) / (last - began));
}

static void slow(double seconds, long bytes_a_second) {
  static char room[1 << 16];
  for (size_t n = 0; n < connection_count; n++) ask(&connections[n], 0);
  puts("");
  fflush(stdout);
  size_t each = (size_t)(bytes_a_second / 10 < (long)sizeof room ? bytes_a_second / 10 : (long)sizeof room);
  for (double ends = now() + seconds; now() < ends; usleep(100000)) {
    for (size_t n = 0; n < connection_count; n++) {
      if (!connections[n].open) continue;
      ssize_t got = recv(connections[n].fd, room, each, MSG_DONTWAIT);
      if (got > 0)
        body_bytes += got;
      else if (got == 0 || errno != EAGAIN)
        lose(&connections[n]);
    }
  }
  printf("{\"answers\": 0, \"errors\": %ld, \"body_bytes\": %ld}\n", errors, body_bytes);
}

int main(int count, char **words) {
  if (count < 7) return 2;
  connection_count = strtoul(words[3], NULL, 10);
  double seconds = atof(words[4]);
  int is_slow = !strcmp(words[1], "slow");
  read_requests(words[5]);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  connect_all(atoi(words[2]), is_slow ? SLOW_BUFFER : 0);
  if (is_slow) {
    slow(seconds, atol(words[6]));
    return 0;
  }
  if (count < 8) return 2;
  expected_status = atoi(words[6]);
  expected_length = atol(words[7]);
  int crowd = !strcmp(words[1], "crowd");
  if (!crowd && count < 9) return 2;
  steady(seconds, crowd ? 0 : atoi(words[8]), crowd);
  return 0;
}

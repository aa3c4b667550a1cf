/* Peers for the benches.
 *
 *   loadgen rate PORT PORTS CLIENTS SECONDS    connect, read to the end, close; over PORTS ports in turn
 *   loadgen echo PORT 1 CLIENTS SECONDS        connect, send a line, read it back, close
 *   loadgen latency PORT COUNT [PAUSE]         one client: time from connect to the first byte; PAUSE
 *                                              microseconds between two requests
 *   loadgen ask PORT COUNT FILE [FIRST PAUSE]  one client that sends FILE at once; or FIRST octets, and the
 *                                              rest PAUSE microseconds later. One line for each request:
 *                                              microseconds from connect to the first byte, or "failed"
 *   loadgen hold PORT COUNT                    COUNT silent connections, until stdin ends
 *
 * Prints one line of NAME=VALUE words, but for `ask`. */
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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE "sixteen octets.\n"
#define MAX_CLIENTS 1024

struct client {
	int fd;
	int greeted; /* echo: the line has been sent */
	size_t seen;
};

static int first_port, ports, echoing;
static unsigned long opened, done, failed;
static struct client clients[MAX_CLIENTS];

static double now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static int new_socket(int flags)
{
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
	if (fd < 0) {
		perror("socket");
		exit(1);
	}
	return fd;
}

static struct sockaddr_in target(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
	                          .sin_port = htons(first_port + opened % ports),
	                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	opened++;
	return to;
}

static void begin(int poll, struct client *client)
{
	client->fd = new_socket(SOCK_NONBLOCK);
	client->greeted = 0;
	client->seen = 0;
	struct sockaddr_in to = target();
	if (connect(client->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
		failed++;
	struct epoll_event event = { .events = EPOLLIN | (echoing ? EPOLLOUT : 0), .data.ptr = client };
	epoll_ctl(poll, EPOLL_CTL_ADD, client->fd, &event);
}

/* Whether the connection is over. */
static int step(int poll, struct client *client)
{
	char buffer[4096];
	if (echoing && !client->greeted) {
		if (write(client->fd, LINE, sizeof LINE - 1) != sizeof LINE - 1) {
			if (errno == EAGAIN || errno == ENOTCONN)
				return 0;
			failed++;
			return 1;
		}
		client->greeted = 1;
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };
		epoll_ctl(poll, EPOLL_CTL_MOD, client->fd, &event);
		return 0;
	}
	for (;;) {
		ssize_t count = read(client->fd, buffer, sizeof buffer);
		if (count > 0) {
			client->seen += count;
			if (echoing && client->seen == sizeof LINE - 1) {
				done++;
				return 1;
			}
			continue;
		}
		if (count < 0 && errno == EAGAIN)
			return 0;
		if (count == 0 && client->seen > 0 && !echoing)
			done++;
		else
			failed++;
		return 1;
	}
}

static void load(int count, double seconds)
{
	int poll = epoll_create1(0);
	struct epoll_event events[MAX_CLIENTS];
	for (int nth = 0; nth < count; nth++)
		begin(poll, &clients[nth]);
	double began = now(), end = began + seconds;
	while (now() < end) {
		int ready = epoll_wait(poll, events, MAX_CLIENTS, 100);
		for (int nth = 0; nth < ready; nth++) {
			struct client *client = events[nth].data.ptr;
			if (step(poll, client)) {
				close(client->fd);
				begin(poll, client);
			}
		}
	}
	double took = now() - began;
	printf("per_second=%.1f done=%lu failed=%lu\n", done / took, done, failed);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void latency(int count, long pause)
{
	struct timespec rest = { .tv_nsec = pause * 1000 };
	double *took = calloc(count, sizeof *took);
	char buffer[4096];
	for (int nth = 0; nth < count; nth++) {
		int fd = new_socket(0);
		struct sockaddr_in to = target();
		double began = now();
		if (connect(fd, (struct sockaddr *)&to, sizeof to) || read(fd, buffer, 1) != 1)
			failed++;
		took[nth] = now() - began;
		while (read(fd, buffer, sizeof buffer) > 0)
			;
		close(fd);
		if (pause)
			nanosleep(&rest, NULL);
	}
	qsort(took, count, sizeof *took, by_size);
	printf("median_us=%.1f p99_us=%.1f failed=%lu\n", took[count / 2] * 1e6,
	       took[count * 99 / 100] * 1e6, failed);
}

static int send_all(int fd, const char *bytes, size_t count)
{
	return send(fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count;
}

static int ask_one(int fd, const char *request, size_t length, size_t first, long pause)
{
	struct sockaddr_in to = target();
	struct timespec rest = { .tv_nsec = pause * 1000 };
	char answer;
	if (connect(fd, (struct sockaddr *)&to, sizeof to) || !send_all(fd, request, first))
		return 0;
	if (first < length) {
		nanosleep(&rest, NULL);
		if (!send_all(fd, request + first, length - first))
			return 0;
	}
	return read(fd, &answer, 1) == 1;
}

static void ask(int count, const char *path, long first, long pause)
{
	char request[65536], buffer[4096];
	FILE *file = fopen(path, "r");
	size_t length = file ? fread(request, 1, sizeof request, file) : 0;
	double *took = calloc(count, sizeof *took);
	int on = 1;
	if (length == 0 || took == NULL) {
		perror(path);
		exit(1);
	}
	prctl(PR_SET_TIMERSLACK, 1); /* a pause is as long as it says */
	for (int nth = 0; nth < count; nth++) {
		int fd = new_socket(0);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		double began = now();
		int answered = ask_one(fd, request, length, first > 0 ? (size_t)first : length, pause);
		took[nth] = answered ? now() - began : -1;
		while (answered && read(fd, buffer, sizeof buffer) > 0)
			;
		close(fd);
	}
	for (int nth = 0; nth < count; nth++)
		if (took[nth] < 0)
			puts("failed");
		else
			printf("%.1f\n", took[nth] * 1e6);
}

static void hold(int count)
{
	struct rlimit files = { .rlim_cur = count + 64, .rlim_max = count + 64 };
	char end;
	setrlimit(RLIMIT_NOFILE, &files);
	for (int nth = 0; nth < count; nth++) {
		int fd = new_socket(0);
		struct sockaddr_in to = target();
		if (connect(fd, (struct sockaddr *)&to, sizeof to))
			failed++;
	}
	printf("held=%d failed=%lu\n", count, failed);
	fflush(stdout);
	while (read(0, &end, 1) > 0)
		;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 64;
	first_port = atoi(argv[2]);
	ports = 1;
	if (strcmp(argv[1], "latency") == 0)
		latency(atoi(argv[3]), argc == 5 ? atol(argv[4]) : 0);
	else if (strcmp(argv[1], "ask") == 0 && (argc == 5 || argc == 7))
		ask(atoi(argv[3]), argv[4], argc == 7 ? atol(argv[5]) : 0, argc == 7 ? atol(argv[6]) : 0);
	else if (strcmp(argv[1], "hold") == 0)
		hold(atoi(argv[3]));
	else if (argc == 6 && atoi(argv[4]) <= MAX_CLIENTS) {
		echoing = strcmp(argv[1], "echo") == 0;
		ports = atoi(argv[3]);
		load(atoi(argv[4]), atof(argv[5]));
	} else
		return 64;
	return 0;
}

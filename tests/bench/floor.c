/* What the kernel alone costs.
 *
 *   floor exec PORT PROGRAM   two workers: accept, vfork, exec PROGRAM on the connection
 *   floor echo PORT           one worker: accept, read and write until the end, close
 *
 * Nothing else: no limits, no log, no user switch. Ends with its parent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	_exit(1);
}

static int open_listener(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port),
	                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 1024))
		fail("listen");
	return fd;
}

static void serve_exec(int listener, char *program)
{
	char *argv[] = { program, NULL }, *envp[] = { NULL };
	for (;;) {
		int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (connection < 0)
			continue;
		if (vfork() == 0) {
			dup2(connection, 0);
			dup2(connection, 1);
			execve(program, argv, envp);
			_exit(127);
		}
		close(connection);
	}
}

static void serve_echo(int listener)
{
	char buffer[65536];
	for (;;) {
		int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		ssize_t count;
		if (connection < 0)
			continue;
		while ((count = read(connection, buffer, sizeof buffer)) > 0)
			if (write(connection, buffer, count) < 0)
				break;
		close(connection);
	}
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 64;
	int listener = open_listener(atoi(argv[2]));
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	if (strcmp(argv[1], "echo") == 0)
		serve_echo(listener);
	signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
	if (argc < 4)
		return 64;
	for (int worker = 0; worker < 2; worker++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			serve_exec(listener, argv[3]);
		}
	for (;;)
		pause();
}

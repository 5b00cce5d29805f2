/* The traffic that `make bench` measures: one thread that is both ends of every connection, over loopback.
 *
 * One thread, because then nothing waits and nothing is scheduled: a segment is delivered, hooks and all, before the call
 * that sent it returns. Commands come on standard input, a line each; the answer is the time that it took, in ns:
 *
 *     connect N     N connections, one after the other: opened, accepted, closed by a RST (no TIME_WAIT is left)
 *     exchange N    N round trips of one byte over a connection that stays: two segments each
 *
 * It ends with its input, or after LIFE_S. Exit status 1: a call failed; standard error says which.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LIFE_S 120
#define COUNT_MAX 1000000

static int listener = -1;
static struct sockaddr_in address = {.sin_family = AF_INET};

static void fail(const char *call)
{
	perror(call);
	exit(1);
}

static int checked(int result, const char *call)
{
	if (result < 0)
		fail(call);
	return result;
}

static void open_both(int *client, int *server)
{
	*client = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");
	checked(connect(*client, (struct sockaddr *)&address, sizeof(address)), "connect");
	*server = checked(accept(listener, NULL, NULL), "accept");
}

static void connect_many(long count)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	int client, server;

	for (long i = 0; i < count; i++) {
		open_both(&client, &server);
		checked(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), "setsockopt");
		close(client);
		close(server);
	}
}

static void pass(int from, int to)
{
	char byte = 'x';

	if (write(from, &byte, 1) != 1)
		fail("write");
	if (read(to, &byte, 1) != 1)
		fail("read");
}

static void exchange_many(long count)
{
	static int client = -1, server = -1;
	const int on = 1;

	if (client < 0) {
		open_both(&client, &server);
		checked(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), "setsockopt");
		checked(setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), "setsockopt");
	}
	for (long i = 0; i < count; i++) {
		pass(client, server);
		pass(server, client);
	}
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(void)
{
	socklen_t length = sizeof(address);
	char command[16];
	long count;

	alarm(LIFE_S);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");
	checked(bind(listener, (struct sockaddr *)&address, sizeof(address)), "bind");
	checked(listen(listener, 16), "listen");
	checked(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
	while (scanf("%15s %ld", command, &count) == 2 && count > 0 && count <= COUNT_MAX) {
		long long start = now_ns();

		if (!strcmp(command, "connect"))
			connect_many(count);
		else
			exchange_many(count);
		printf("%lld\n", now_ns() - start);
		fflush(stdout);
	}
	return 0;
}

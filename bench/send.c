/* Packets whose headers are read from standard input, sent into a device that keeps none: what an output hook costs.
 *
 *     send COUNT < packets
 *
 * Packets are of 40 bytes, an IPv4 header and a TCP header, PACKETS_MAX at most; they are sent in turn until COUNT are
 * sent. Prints the time that it took, in ns, and how many the kernel refused. Exit status 1: a call failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PACKET_BYTES 40
#define PACKETS_MAX 65536
#define COUNT_MAX 10000000

static unsigned char packets[PACKETS_MAX][PACKET_BYTES];
static struct sockaddr_in targets[PACKETS_MAX];

int main(int argc, char **argv)
{
	size_t have = fread(packets, PACKET_BYTES, PACKETS_MAX, stdin);
	long count = argc > 1 ? atol(argv[1]) : 0, refused = 0;
	struct timespec began, ended;
	int raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	if (raw < 0 || !have || count < 1 || count > COUNT_MAX) {
		perror("send");
		return 1;
	}
	for (size_t i = 0; i < have; i++) {
		targets[i].sin_family = AF_INET;
		memcpy(&targets[i].sin_addr, packets[i] + 16, sizeof(targets[i].sin_addr));
	}
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (long i = 0; i < count; i++) {
		size_t at = i % have;

		if (sendto(raw, packets[at], PACKET_BYTES, 0, (struct sockaddr *)&targets[at], sizeof(targets[at])) < 0)
			refused++;
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	printf("%lld %ld\n", (ended.tv_sec - began.tv_sec) * 1000000000LL + ended.tv_nsec - began.tv_nsec, refused);
	return 0;
}

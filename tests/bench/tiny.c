/* The smallest server: one line, and the end. No libc, so that what is
 * measured is the way to it and not its own start. Built by run.py with
 * -static -nostdlib; or with -static -DLIBC, as most small servers are.
 * With -DREADS=N it first reads a request of N octets, whole; -DANSWER=TEXT
 * is what it says instead of "served". */

#ifndef ANSWER
#define ANSWER "served"
#endif
static const char answer[] = ANSWER "\n";

#ifndef READS
#define READS 0
#endif

#ifdef LIBC
#include <unistd.h>

int main(void)
{
	static char request[READS + 1];
	for (long seen = 0, count; seen < READS; seen += count)
		if ((count = read(0, request, READS - seen)) <= 0)
			return 1;
	return write(1, answer, sizeof answer - 1) != sizeof answer - 1;
}
#else

static long call(long number, long a, long b, long c)
{
#if defined(__x86_64__)
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c)
	                 : "rcx", "r11", "memory");
	return result;
#define SYS_READ 0
#define SYS_WRITE 1
#define SYS_EXIT 60
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
#define SYS_READ 63
#define SYS_WRITE 64
#define SYS_EXIT 93
#else
#error "no system calls for this machine"
#endif
}

void _start(void)
{
	static char request[READS + 1];
	for (long seen = 0, count; seen < READS; seen += count)
		if ((count = call(SYS_READ, 0, (long)request, READS - seen)) <= 0)
			call(SYS_EXIT, 1, 0, 0);
	call(SYS_WRITE, 1, (long)answer, sizeof answer - 1);
	call(SYS_EXIT, 0, 0, 0);
	for (;;)
		;
}
#endif

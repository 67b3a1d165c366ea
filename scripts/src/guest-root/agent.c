// SPDX-License-Identifier: MIT
/*
 * The first process of the guest. It runs one program at a time for the host
 * and carries its three streams, its exit status and nothing else; what is to
 * be run, and when, the host decides (qemu.ts speaks the other side).
 *
 * Three virtio-serial ports, integers little-endian as both machines have them:
 *   control  host -> guest  u8 type, u32 length, payload
 *              'R' run: NUL-terminated strings: "pty", "pipe" or "null" for its
 *                  standard input, rows, columns,
 *                  working directory, number of variables, the variables,
 *                  number of arguments, the arguments
 *              'K' kill: u32 signal, to the process group of the program
 *              'C' close: u32 stream (1 or 2), nobody reads it any more
 *              'W' window size: u16 rows, u16 columns
 *              'M' mark: text for the kernel log, so that the host knows it has
 *                  seen everything the kernel said before
 *              'Q' end: kill every process left, sync the file systems
 *            guest -> host  the same form
 *              'H' hello · 'P' started · 'E' not started: u32 errno
 *              'X' ended: u32 wait status, after its output was sent
 *              'Q' all is quiet: u32 the kernel's taint mask
 *   input    host -> guest  u32 length, bytes; length 0: end of file
 *   output   guest -> host  u8 stream (1 or 2), u32 length, bytes
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 16384, MESSAGE_MAX = 4 << 20 };

static int control, input, output;	/* the ports, all non-blocking */
static int child_exits;			/* signalfd */
static pid_t child = -1;
static bool pty;
static int stdin_fd = -1;		/* closing it is the program's end of file */
static int stream_fd[2] = { -1, -1 };	/* its standard output and error */

/* Input the program has not taken yet; no more is read from the port before it has. */
static struct { char bytes[65536]; size_t start, end; } fed;
/* Output the host has not taken yet; no more is read from the program before it has. */
static struct { char bytes[5 + CHUNK]; size_t start, end; } sent;

static void die(const char *what)
{
	int fd = open("/dev/console", O_WRONLY | O_CLOEXEC);

	dprintf(fd < 0 ? 2 : fd, "dmabuf-agent: %s: %s\n", what, strerror(errno));
	exit(1);	/* the kernel panics, and the host shows this line too */
}

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void write_all(int fd, const void *data, size_t length)
{
	const char *p = data;

	while (length) {
		ssize_t n = write(fd, p, length);

		if (n > 0) {
			p += n;
			length -= n;
		} else if (n < 0 && errno == EAGAIN) {
			wait_for(fd, POLLOUT);
		} else if (n < 0 && errno != EINTR) {
			die("write to the host");
		}
	}
}

/* A message arrives whole: once its first byte is there the rest is under way. */
static void read_all(int fd, void *data, size_t length)
{
	char *p = data;

	while (length) {
		ssize_t n = read(fd, p, length);

		if (n > 0) {
			p += n;
			length -= n;
		} else if (n < 0 && errno == EAGAIN) {
			wait_for(fd, POLLIN);
		} else if (n == 0 || errno != EINTR) {
			die("read from the host");
		}
	}
}

static void tell(char type, uint32_t value)
{
	char message[9] = { type, 4 };	/* a length of 4, little-endian */

	memcpy(message + 5, &value, 4);
	write_all(control, message, sizeof(message));
}

/* Ports are found by the names the host gave them; udev is not here to do it. */
static int find_port(const char *name)
{
	char path[300], found[64];
	struct dirent *entry;
	DIR *dir = opendir("/sys/class/virtio-ports");
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
		FILE *f = fopen(path, "re");

		if (!f)
			continue;
		if (fgets(found, sizeof(found), f)) {
			found[strcspn(found, "\n")] = 0;
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			if (!strcmp(found, name))
				fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		}
		fclose(f);
	}
	if (dir)
		closedir(dir);
	return fd;
}

static int open_port(const char *name)
{
	struct timespec pause = { .tv_nsec = 5000000 };

	for (int tries = 0; tries < 4000; tries++) {
		struct pollfd p = { .fd = find_port(name) };

		/* A port hangs up until the kernel has heard that the host's end is open. */
		if (p.fd >= 0 && poll(&p, 1, 0) == 0)
			return p.fd;
		close_fd(&p.fd);
		nanosleep(&pause, NULL);
	}
	errno = ENODEV;
	die(name);
	return -1;
}

static void feed(void)
{
	uint32_t length;

	read_all(input, &length, 4);
	if (length > sizeof(fed.bytes)) {
		errno = EMSGSIZE;
		die("input");
	}
	read_all(input, fed.bytes, length);
	if (length) {
		fed.start = 0;
		fed.end = length;
	} else if (pty && stdin_fd >= 0) {
		write_all(stdin_fd, "\004", 1);
	} else {
		close_fd(&stdin_fd);
	}
}

static void pass_input(void)
{
	ssize_t n = write(stdin_fd, fed.bytes + fed.start, fed.end - fed.start);

	if (n > 0)
		fed.start += n;
	else if (errno != EAGAIN && errno != EINTR)
		close_fd(&stdin_fd);	/* the program closed its input: the rest is dropped */
}

/* False: there is nothing now, or never will be (then the descriptor is closed). */
static bool take_output(int stream)
{
	ssize_t n = read(stream_fd[stream], sent.bytes + 5, CHUNK);
	uint32_t length = n;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {	/* EIO is how a terminal says that nobody is left */
		close_fd(&stream_fd[stream]);
		return false;
	}
	sent.bytes[0] = stream + 1;
	memcpy(sent.bytes + 1, &length, 4);
	sent.start = 0;
	sent.end = 5 + length;
	return true;
}

static void pass_output(void)
{
	ssize_t n = write(output, sent.bytes + sent.start, sent.end - sent.start);

	if (n > 0)
		sent.start += n;
	else if (errno != EAGAIN && errno != EINTR)
		die("write to the host");
}

/*
 * What the program wrote before it ended. Not more: a process it left in the
 * background may hold the other end and write on and on.
 */
static void take_rest(int stream)
{
	int left = fcntl(stream_fd[stream], F_GETPIPE_SZ);

	if (left < 0)
		left = 65536;	/* a terminal keeps less */
	while (left > 0 && stream_fd[stream] >= 0 && take_output(stream)) {
		write_all(output, sent.bytes, sent.end);
		left -= sent.end - 5;
	}
	close_fd(&stream_fd[stream]);
}

/* Orphans end up here too; only the program itself is news. */
static void reap(void)
{
	struct signalfd_siginfo ignored;
	int status;
	pid_t pid;

	while (read(child_exits, &ignored, sizeof(ignored)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != child)
			continue;
		write_all(output, sent.bytes + sent.start, sent.end - sent.start);
		take_rest(0);
		take_rest(1);
		sent.start = sent.end = 0;
		fed.start = fed.end = 0;
		close_fd(&stdin_fd);
		child = -1;
		tell('X', status);
	}
}

static int nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return fd;
}

static char *next_string(char **p, char *end)
{
	char *s = *p;
	size_t length = strnlen(s, end - s);

	if (s + length >= end) {
		errno = EBADMSG;
		die("message");
	}
	*p = s + length + 1;
	return s;
}

static char **next_strings(char **p, char *end)
{
	size_t count = strtoul(next_string(p, end), NULL, 10);
	char **list = calloc(count + 1, sizeof(*list));

	if (!list)
		die("message");
	for (size_t i = 0; i < count; i++)
		list[i] = next_string(p, end);
	return list;
}

/* In the new process. Returns only if the program cannot be started. */
static void become(int in, int out, int err, const char *directory, char **variables, char **arguments)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	if (pty)
		ioctl(in, TIOCSCTTY, 0);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	if (chdir(directory))
		return;
	environ = variables;
	execvp(arguments[0], arguments);
}

static void run(char *p, char *end)
{
	const char *mode = next_string(&p, end);
	struct winsize size = { 0 };
	int in[2], out[2], err[2], failed[2], reason = 0;

	pty = !strcmp(mode, "pty");
	size.ws_row = atoi(next_string(&p, end));
	size.ws_col = atoi(next_string(&p, end));

	const char *directory = next_string(&p, end);
	char **variables = next_strings(&p, end);
	char **arguments = next_strings(&p, end);

	if (pipe2(failed, O_CLOEXEC))
		die("pipe");
	if (pty) {
		int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

		if (master < 0 || grantpt(master) || unlockpt(master))
			die("pty");
		in[0] = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (in[0] < 0)
			die("pty");
		ioctl(in[0], TIOCSWINSZ, &size);
		out[1] = err[1] = in[0];
		in[1] = master;
		out[0] = fcntl(master, F_DUPFD_CLOEXEC, 0);
		err[0] = -1;
	} else {
		if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
			die("pipe");
		if (!strcmp(mode, "null")) {
			in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
			in[1] = -1;
		} else if (pipe2(in, O_CLOEXEC)) {
			die("pipe");
		}
	}

	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		become(in[0], out[1], err[1], directory, variables, arguments);
		reason = errno;
		write_all(failed[1], &reason, sizeof(reason));
		_exit(127);
	}
	close(in[0]);
	if (!pty) {
		close(out[1]);
		close(err[1]);
	}
	close(failed[1]);
	while (read(failed[0], &reason, sizeof(reason)) < 0 && errno == EINTR)
		;
	close(failed[0]);
	free(variables);
	free(arguments);

	stdin_fd = in[1] < 0 ? -1 : nonblocking(in[1]);
	stream_fd[0] = nonblocking(out[0]);
	stream_fd[1] = err[0] < 0 ? -1 : nonblocking(err[0]);
	if (reason) {
		waitpid(child, NULL, 0);
		child = -1;
		close_fd(&stdin_fd);
		close_fd(&stream_fd[0]);
		close_fd(&stream_fd[1]);
		tell('E', reason);
	} else {
		tell('P', child);
	}
}

static void mark(const char *text, size_t length)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, length) < 0)
		die("/dev/kmsg");
	close(fd);
}

/* What the program left running ends before the kernel's last word is read. */
static void quiet(void)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	unsigned long taint = 0;
	FILE *f;

	kill(-1, SIGKILL);
	for (int tries = 0; tries < 2500; tries++) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0 && errno == ECHILD)
			break;
		if (pid == 0)
			nanosleep(&pause, NULL);
	}
	sync();
	f = fopen("/proc/sys/kernel/tainted", "re");
	if (f) {
		if (fscanf(f, "%lu", &taint) != 1)
			taint = 0;
		fclose(f);
	}
	tell('Q', taint);
}

static void obey(void)
{
	char type;
	uint32_t length, value;
	uint16_t window[2];
	char *payload;

	read_all(control, &type, 1);
	read_all(control, &length, 4);
	if (length > MESSAGE_MAX) {
		errno = EMSGSIZE;
		die("control");
	}
	payload = calloc(length + 1, 1);
	if (!payload)
		die("control");
	read_all(control, payload, length);
	switch (type) {
	case 'R':
		run(payload, payload + length);
		break;
	case 'K':
		memcpy(&value, payload, sizeof(value));
		if (child > 0)
			kill(-child, value);
		break;
	case 'C':
		memcpy(&value, payload, sizeof(value));
		close_fd(&stream_fd[value == 2]);
		if (pty)
			close_fd(&stdin_fd);	/* the same terminal: it hangs up */
		break;
	case 'W':
		memcpy(window, payload, sizeof(window));
		if (pty && stdin_fd >= 0)
			ioctl(stdin_fd, TIOCSWINSZ, &(struct winsize){ .ws_row = window[0], .ws_col = window[1] });
		break;
	case 'M':
		mark(payload, length);
		break;
	case 'Q':
		quiet();
		break;
	default:
		errno = EBADMSG;
		die("control");
	}
	free(payload);
}

int main(void)
{
	sigset_t chld;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	child_exits = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	if (child_exits < 0)
		die("signalfd");

	control = open_port("control");
	input = open_port("input");
	output = open_port("output");
	tell('H', 0);

	for (;;) {
		bool full = sent.start < sent.end, hungry = fed.start >= fed.end;
		struct pollfd p[] = {
			{ .fd = control, .events = POLLIN },
			{ .fd = child_exits, .events = POLLIN },
			{ .fd = hungry ? input : -1, .events = POLLIN },
			{ .fd = hungry ? -1 : stdin_fd, .events = POLLOUT },
			{ .fd = full ? output : -1, .events = POLLOUT },
			{ .fd = full ? -1 : stream_fd[0], .events = POLLIN },
			{ .fd = full ? -1 : stream_fd[1], .events = POLLIN },
		};

		if (poll(p, sizeof(p) / sizeof(*p), -1) < 0) {
			if (errno == EINTR)
				continue;
			die("poll");
		}
		if (p[3].revents)
			pass_input();
		if (p[4].revents)
			pass_output();
		for (int i = 0; i < 2; i++)
			if (p[5 + i].revents && sent.start >= sent.end)
				take_output(i);
		if (p[2].revents & POLLIN)
			feed();
		if (p[0].revents & POLLIN)
			obey();
		if (p[1].revents)
			reap();
		if (stdin_fd < 0)
			fed.start = fed.end = 0;
	}
}

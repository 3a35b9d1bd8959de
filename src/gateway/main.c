/*
 * gateway/main.c - fzlua-nats, which the fzlua command starts.
 *
 *	fzlua-nats --submit             the gateway of a script: submit.h
 *	fzlua-nats --relay NAME ID      a worker on a node: relay.h
 *	fzlua-nats --serve FD           the gateway of a node: serve.h
 *
 * NATS needs threads, and a process with threads must not fork. So the script's
 * process, the process on a node and their workers never load libnats: each
 * machine has a gateway, a program of its own, which reads secrets from
 * its input.
 */
#define _GNU_SOURCE /* for unsetenv */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/relay.h"
#include "gateway/serve.h"
#include "gateway/submit.h"
#include "os/fd.h"

/*
 * Close the outputs, so that no file of the script, such as a pipe of its
 * output, stays open here.
 */
static void
leave_output(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null == -1)
		return;
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	close(null);
}

int
main(int argc, char **argv)
{
	/*
	 * A map in a worker runs on the worker's machine, so no variable names
	 * an engine. A worker needs no secrets.
	 */
	unsetenv("FZLUA_ENGINE");
	unsetenv("FZLUA_ENGINE_CREDS");
	if (argc == 4 && strcmp(argv[1], "--relay") == 0)
		return fz_relay_main(argv[2], argv[3]);
	fz_fd_raise_limit(); /* each lease has three descriptors */
	if (argc == 2 && strcmp(argv[1], "--submit") == 0) {
		leave_output();
		return fz_gateway_submit(STDIN_FILENO);
	}
	if (argc == 3 && strcmp(argv[1], "--serve") == 0)
		return fz_gateway_serve(atoi(argv[2]));
	fputs("fzlua-nats is a part of fzlua: see fzlua --help, --engine\n",
	    stderr);
	return 2;
}

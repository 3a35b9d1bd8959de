/* processes.h - a process and all below it, as /proc shows them. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct process {
	pid_t pid;
	int64_t ran_ns;    /* time on a processor since its start */
	int64_t waited_ns; /* time ready to run, but without a processor */
};

/* A list of processes; starts as zeroes. */
struct processes {
	struct process *list; /* parents first */
	size_t n, cap;
};

/* Fill `ps` with the process `root` and its descendants. */
void processes_read(struct processes *ps, pid_t root);

/* Fill `ps` with the descendants of `root`. */
void processes_read_below(struct processes *ps, pid_t root);

/*
 * Times between two readings. `busy_ns`: all processes together ran or were
 * ready to run. `waited_ns`: the longest time that one process was ready to run
 * but had no processor.
 */
void processes_times(const struct processes *before,
    const struct processes *now, int64_t *busy_ns, int64_t *waited_ns);

/*
 * Kill the processes of the list, `root` first, so that `root` starts no more.
 */
void processes_kill(struct processes *ps, pid_t root);

/* Write lines on a process: its command, its state, its place in the kernel. */
void processes_describe(const struct process *p, FILE *out);

/* Write the value of an environment variable ("NAME=") of a process. */
void processes_put_variable(
    const struct process *p, const char *variable, FILE *out);

void processes_free(struct processes *ps);

#endif

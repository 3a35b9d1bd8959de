/* processes.h - a process and all below it, as /proc shows them. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct process {
	pid_t pid;
	int64_t ran_ns;    /* since its start */
	int64_t waited_ns; /* since its start: ready to run, no processor */
};

/* Starts as zeroes. */
struct processes {
	struct process *list; /* parents first */
	size_t n, cap;
};

/* Fill `ps` with the process `root` and its descendants. */
void processes_read(struct processes *ps, pid_t root);

/* The same without `root`. */
void processes_read_below(struct processes *ps, pid_t root);

/*
 * What happened between two readings: `busy_ns`, how long all of them together
 * ran or were ready to; `waited_ns`, the longest that one was ready to run and
 * had no processor.
 */
void processes_times(const struct processes *before,
    const struct processes *now, int64_t *busy_ns, int64_t *waited_ns);

/* Kill them, `root` first, so that it starts no others. */
void processes_kill(struct processes *ps, pid_t root);

/* Write lines on one: command, state, where in the kernel it is. */
void processes_describe(const struct process *p, FILE *out);

/* Write the value of a variable ("NAME=") that it started with, if it has it. */
void processes_put_variable(
    const struct process *p, const char *variable, FILE *out);

void processes_free(struct processes *ps);

#endif

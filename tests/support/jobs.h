/* jobs.h - jobs for workers in tests, many of which misbehave. */
#ifndef JOBS_H
#define JOBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fz_call;
struct fz_port;

/* The jobs; a number is eight bytes, little-endian. */
enum job {
	JOB_ECHO,          /* return the arguments */
	JOB_ADD,           /* return the sum of the arguments */
	JOB_SLEEP,         /* sleep for the argument in ms, and return it */
	JOB_SEED,          /* return the seed of the job */
	JOB_BYTES,         /* return as many bytes as the argument says */
	JOB_RAISE,         /* fail with an error */
	JOB_RAISE_LATE,    /* fail with an error, when a JOB_SLEEP runs */
	JOB_CRASH,         /* die of SIGSEGV */
	JOB_EXIT,          /* exit with the argument as code */
	JOB_KILL,          /* die of SIGKILL in the job */
	JOB_KILL_STORED,   /* JOB_KILL, with the reply in the mailbox */
	JOB_KILL_HALF,     /* JOB_KILL, with half of the reply written */
	JOB_KILL_WRITTEN,  /* JOB_KILL, after a write that is not counted */
	JOB_KILL_BIG_HALF, /* die with half of a big reply written */
	JOB_GARBAGE,       /* write bytes that are not a frame */
	JOB_REPLY_GARBAGE, /* write a reply and garbage in one write */
	JOB_LATE_GARBAGE,  /* write a reply, and 20 ms later garbage */
	JOB_CLOSE_OUT,     /* close the pipe for results, and sleep */
	JOB_CLOSE_IN,      /* close the pipe for jobs, and sleep */
	JOB_COUNT,         /* as JOB_SLEEP, but count the running ones */
	JOB_KILL_ONCE, /* the first one dies of SIGKILL, others as JOB_ADD */
	JOB_PRINT,     /* print the argument */
	JOB_TOO_MANY,  /* reply with a count above the number of values */
	JOB_TOO_FEW,   /* reply with one value too few */
	JOB_BLOCK,     /* block all signals, and sleep */
	JOB_IGNORE,    /* ignore all signals, and sleep */
	JOB_NJOBS
};

/* How a worker behaves before it takes its first job. */
enum start_mode {
	START_NORMAL,
	START_FIRST_DIES_UNREAD,  /* the first worker dies before it reads */
	START_FIRST_DIES_READING, /* dies after a job's header */
	START_FIRST_DIES_HALFWAY, /* it dies after half of bulk_size() bytes */
	START_ALL_DIE,            /* all workers die */
	START_NEVER_READS         /* workers do not read */
};

struct shared {
	_Atomic int births, running, peak, kills, leaves;
	_Atomic int deaf;     /* workers that block or ignore signals */
	_Atomic int sleeping; /* JOB_SLEEPs with a fixed end */
	_Atomic int calls[JOB_NJOBS];
	enum start_mode mode;
};

bool on_valgrind(void);

/* Many bytes; fewer under valgrind, which checks the whole buffer of a read. */
size_t bulk_size(void);

/* The main function of workers; `ctx` is a struct shared. */
int serve(void *ctx, struct fz_port *port);

/* Append a value to the reply: a number; `n` bytes. */
void put_number(struct fz_port *port, uint64_t v);
void put_bytes(struct fz_port *port, uint64_t n);

/* Begin a reply that is the error "raised". */
void put_error(struct fz_port *port, const struct fz_call *call);

uint64_t next_number(struct fz_port *port, struct fz_call *call);

void nap(uint64_t ms);

/* Sleep until a time of the shared clock, see fz_clock_share(). */
void nap_until(int64_t until_ns);

#endif

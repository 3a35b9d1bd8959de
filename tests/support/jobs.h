/* jobs.h - workers that misbehave on demand: what tests ask them to do. */
#ifndef JOBS_H
#define JOBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fz_call;
struct fz_port;

/* What a worker can be asked for; a number is eight bytes, little-endian. */
enum job {
	JOB_ECHO,          /* its arguments */
	JOB_ADD,           /* the sum of its arguments */
	JOB_SLEEP,         /* milliseconds -> the same */
	JOB_SEED,          /* its seed */
	JOB_BYTES,         /* n -> n bytes */
	JOB_RAISE,         /* an error */
	JOB_RAISE_LATE,    /* the same, when a JOB_SLEEP runs */
	JOB_CRASH,         /* SIGSEGV */
	JOB_EXIT,          /* code -> never returns */
	JOB_KILL,          /* SIGKILL in the middle */
	JOB_KILL_STORED,   /* with its reply whole but not written */
	JOB_KILL_HALF,     /* with half of that written */
	JOB_KILL_WRITTEN,  /* with all of it written, still counted as not */
	JOB_KILL_BIG_HALF, /* with half of a big reply written */
	JOB_GARBAGE,       /* bytes that are no frame */
	JOB_REPLY_GARBAGE, /* a reply and such bytes in one write */
	JOB_LATE_GARBAGE,  /* a reply, and 20 ms later such bytes */
	JOB_CLOSE_OUT,     /* closes the pipe for its results, sleeps */
	JOB_CLOSE_IN,      /* closes the pipe for its jobs, sleeps */
	JOB_COUNT,         /* how many run now is noted; milliseconds */
	JOB_KILL_ONCE, /* SIGKILL if it is the first of these, else as ADD */
	JOB_PRINT,     /* prints its argument */
	JOB_TOO_MANY,  /* a reply that promises more values than it has */
	JOB_TOO_FEW,   /* one value less than is wanted */
	JOB_BLOCK,     /* blocks all signals, sleeps */
	JOB_IGNORE,    /* ignores all signals, sleeps */
	JOB_NJOBS
};

/* How a worker behaves before it takes its first job. */
enum start_mode {
	START_NORMAL,
	START_FIRST_DIES_UNREAD,  /* the first one, before it reads */
	START_FIRST_DIES_READING, /* with the header of a job read */
	START_FIRST_DIES_HALFWAY, /* with half of bulk_size() read */
	START_ALL_DIE,            /* all of them */
	START_NEVER_READS         /* never reads */
};

struct shared {
	_Atomic int births, running, peak, kills, leaves;
	_Atomic int deaf; /* workers that signals no longer reach */
	_Atomic int calls[JOB_NJOBS];
	enum start_mode mode;
};

bool on_valgrind(void);

/* Many bytes; fewer on valgrind, which looks at a whole buffer at each read. */
size_t bulk_size(void);

/* A fz_worker_main; `ctx` is a struct shared. */
int serve(void *ctx, struct fz_port *port);

/* Append a value to the reply: a number; `n` bytes. */
void put_number(struct fz_port *port, uint64_t v);
void put_bytes(struct fz_port *port, uint64_t n);

/* Begin a reply that is the error "raised". */
void put_error(struct fz_port *port, const struct fz_call *call);

/* The next argument. */
uint64_t next_number(struct fz_port *port, struct fz_call *call);

void nap(uint64_t ms);

#endif

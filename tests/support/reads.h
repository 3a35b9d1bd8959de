/*
 * reads.h - reads that fail or are short on demand.
 *
 * A test that includes this has this line in its first comment:
 *
 *  wrap: read
 */
#ifndef READS_H
#define READS_H

#include <stddef.h>

extern struct reads {
	int error;   /* errno of reads; EINTR: of the next only; 0: none */
	size_t most; /* bytes of a read; 0: no limit */
} reads;

#endif

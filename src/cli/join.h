/* join.h - makes this machine a node of an engine: fzlua --worker. */
#ifndef FZ_JOIN_H
#define FZ_JOIN_H

#include <stdbool.h>

/*
 * Whether the command line is `fzlua --worker` as a user types it, to make this
 * machine a node of an engine.
 */
bool fz_join_is(int argc, char **argv);

/* Become the gateway of the node, or return the exit status. */
int fz_join_main(int argc, char **argv);

#endif

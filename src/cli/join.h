/* join.h - the fzlua command joins an engine as a node. */
#ifndef FZ_JOIN_H
#define FZ_JOIN_H

#include <stdbool.h>

/*
 * Whether this is `fzlua --worker` as a person types it: the machine joins an
 * engine.
 */
bool fz_join_is(int argc, char **argv);

/* Become the gateway of the node, or return the exit status. */
int fz_join_main(int argc, char **argv);

#endif

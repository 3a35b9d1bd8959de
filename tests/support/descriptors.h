/* descriptors.h - how many descriptors are open, to find those left over. */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

/*
 * The number of open descriptors, including one of this function: compare two
 * results.
 */
int count_fds(void);

#endif

/* descriptors.h - how many descriptors are open, to find those left over. */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

/* How many descriptors are open, including one of this function. */
int count_fds(void);

#endif

/* descriptors.h - how many descriptors are open, to find those left over. */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

/* The number is compared with others only: it counts the reader's own, too. */
int count_fds(void);

#endif

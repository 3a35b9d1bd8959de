/* descriptors.h - how many descriptors are open, to find those left over. */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

/* Only differences count, because one descriptor is that of this function. */
int count_fds(void);

#endif

/* server_name.h - the name of the NATS server in the URL. */
#ifndef FZ_SERVER_NAME_H
#define FZ_SERVER_NAME_H

struct fz_err;

/* maximum number of bytes of a name that fz_server_name_bare() copies */
enum { FZ_SERVER_NAME_MAX = 256 };

/*
 * When this thread resolves names, wait at most 3 s for a DNS server that does
 * not answer, instead of 10 s and more. Call it before each connection: it
 * reads resolv.conf, which glibc does not reload after this.
 */
void fz_server_name_limit_wait(void);

/* Copy the name without the brackets that an IPv6 address has in a URL. */
void fz_server_name_bare(char name[FZ_SERVER_NAME_MAX], const char *host);

/*
 * Check that the host is known. Waits 2.5 s for that at most, however many DNS
 * servers there are. 0, or -1 and `err`.
 */
int fz_server_name_check(const char *host, struct fz_err *err);

#endif

#define _GNU_SOURCE /* res_init, EAI_NODATA */
#include "gateway/server_name.h"

#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

void
fz_server_name_limit_wait(void)
{
	if (res_init() != 0)
		return;
	_res.retrans = 1; /* seconds */
	_res.retry = 2;
}

void
fz_server_name_bare(char name[FZ_SERVER_NAME_MAX], const char *host)
{
	size_t len = strlen(host);
	int start = host[0] == '[' && host[len - 1] == ']';

	snprintf(name, FZ_SERVER_NAME_MAX, "%.*s", (int)len - 2 * start,
	    host + start);
}

int
fz_server_name_check(const char *host, struct fz_err *err)
{
	struct addrinfo *list = NULL;
	char name[FZ_SERVER_NAME_MAX];
	int rc;

	fz_server_name_bare(name, host);
	rc = getaddrinfo(name, NULL, NULL, &list);
	if (rc == 0)
		freeaddrinfo(list);
	if (rc == EAI_AGAIN)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "no DNS server answers for the name %.128s", name);
	if (rc == EAI_NONAME || rc == EAI_NODATA)
		return fz_err_set(
		    err, FZ_ERR_ERROR, "the name %.128s is not known", name);
	return 0; /* the connection will fail if this was another failure */
}

/*
 * http_client.c - one HTTP POST at a time, by libcurl on the loop
 *
 * By libcurl's "multi_socket" interface: it names the descriptors to watch and
 * the time of the next call, and the loop does the rest.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/http_client.h"

#include <curl/curl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct HttpClient
{
	Loop			  *loop;
	HttpClientAllows   allows;
	HttpClientHandler  handler;
	void			  *arg;
	CURLM			  *multi;
	LoopTimer		  *timer;
	CURL			  *easy; /* NULL: no request is under way */
	struct curl_slist *headers;
	Buf				   body;
	Buf				   answer;
	bool			   refused;
};

/* A descriptor of libcurl's. */
typedef struct HttpClientSocket
{
	HttpClient	 *client;
	curl_socket_t fd;
	LoopIo		 *io;
} HttpClientSocket;

/* ---- between libcurl and the loop -------------------------------------- */

static void
http_client_end(HttpClient *client, CURLcode code)
{
	HttpClientResponse answer = {
		.refused = client->refused && code == CURLE_COULDNT_CONNECT,
	};
	long number = 0;

	Assert(client->easy != NULL);
	if (code == CURLE_OK)
		curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &number);
	answer.status = (int) number;
	if (code != CURLE_OK)
		answer.error = curl_easy_strerror(code);
	if (code == CURLE_PEER_FAILED_VERIFICATION)
	{
		curl_easy_getinfo(client->easy, CURLINFO_SSL_VERIFYRESULT, &number);
		answer.error = number > X509_V_ERR_UNSPECIFIED
						   ? X509_verify_cert_error_string(number)
						   : "the certificate is another host's";
	}
	if (answer.refused)
		answer.error = "the address is not allowed";
	http_client_cancel(client);
	Assert(client->easy == NULL && client->answer.len <= HTTP_CLIENT_BODY_MAX);
	answer.body = buf_str(&client->answer);
	client->handler(client->arg, &answer);
}

/* libcurl works; the end of the request is reported to the handler. */
static void
http_client_work(HttpClient *client, curl_socket_t fd, int events)
{
	int		 running;
	int		 queued;
	CURLMsg *message;
	CURLcode code;

	curl_multi_socket_action(client->multi, fd, events, &running);
	while ((message = curl_multi_info_read(client->multi, &queued)) != NULL)
	{
		if (message->msg != CURLMSG_DONE)
			continue;
		code = message->data.result;
		http_client_end(client, code);
		return; /* there is one request */
	}
}

static void
http_client_ready(void *arg, uint32_t events)
{
	const HttpClientSocket *watched = arg;
	int						flags = 0;

	if (events & (EPOLLIN | EPOLLHUP))
		flags |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		flags |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		flags |= CURL_CSELECT_ERR;
	http_client_work(watched->client, watched->fd, flags);
}

static void
http_client_due(void *arg)
{
	http_client_work(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* CURLMOPT_SOCKETFUNCTION */
static int
http_client_watch(CURL *easy UNUSED, curl_socket_t fd, int what, void *arg,
				  void *known)
{
	HttpClient		 *client = arg;
	HttpClientSocket *watched = known;
	uint32_t		  events = 0;

	if (what == CURL_POLL_REMOVE)
	{
		if (watched != NULL)
			loop_io_free(watched->io);
		free(watched);
		curl_multi_assign(client->multi, fd, NULL);
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	if (watched == NULL)
	{
		watched = xcalloc(1, sizeof(HttpClientSocket));
		*watched = (HttpClientSocket){.client = client, .fd = fd};
		watched->io = loop_io_new(client->loop, fd, events, http_client_ready,
								  watched);
		curl_multi_assign(client->multi, fd, watched);
	}
	else
		loop_io_want(watched->io, events);
	return 0;
}

/* CURLMOPT_TIMERFUNCTION */
static int
http_client_time(CURLM *multi UNUSED, long wait_ms, void *arg)
{
	HttpClient *client = arg;

	loop_timer_set(client->timer,
				   wait_ms < 0 ? NEVER
							   : loop_now(client->loop) + wait_ms * MS_US);
	return 0;
}

/* CURLOPT_OPENSOCKETFUNCTION: each address before it is connected to */
static curl_socket_t
http_client_open(void *arg, curlsocktype purpose UNUSED,
				 struct curl_sockaddr *address)
{
	HttpClient *client = arg;

	if (!client->allows(client->arg, &address->addr))
	{
		client->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
				  address->protocol);
}

/* CURLOPT_WRITEFUNCTION */
static size_t
http_client_take(char *data, size_t size, size_t count, void *arg)
{
	HttpClient *client = arg;

	buf_add(&client->answer, data,
			Min(size * count, HTTP_CLIENT_BODY_MAX - client->answer.len));
	return size * count;
}

/* ---- life -------------------------------------------------------------- */

HttpClient *
http_client_new(Loop *loop, HttpClientAllows allows, HttpClientHandler handler,
				void *arg)
{
	HttpClient *client = xcalloc(1, sizeof(HttpClient));
	CURLcode	code = curl_global_init(CURL_GLOBAL_DEFAULT);

	Assert(code == CURLE_OK);
	client->loop = loop;
	client->allows = allows;
	client->handler = handler;
	client->arg = arg;
	client->timer = loop_timer_new(loop, http_client_due, client);
	client->multi = curl_multi_init();
	Assert(client->multi != NULL);
	curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION,
					  http_client_watch);
	curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
	curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, http_client_time);
	curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
	return client;
}

void
http_client_free(HttpClient *client)
{
	if (client == NULL)
		return;
	http_client_cancel(client);
	curl_multi_cleanup(client->multi);
	loop_timer_free(client->timer);
	buf_free(&client->body);
	buf_free(&client->answer);
	free(client);
	curl_global_cleanup();
}

void
http_client_cancel(HttpClient *client)
{
	if (client->easy == NULL)
		return;
	curl_multi_remove_handle(client->multi, client->easy);
	curl_easy_cleanup(client->easy);
	curl_slist_free_all(client->headers);
	client->easy = NULL;
	client->headers = NULL;
}

static void
http_client_limit(CURL *easy, const HttpClientRequest *request)
{
	const char *protocols = request->plain ? "https,http" : "https";

	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
					 (long) (HTTP_CLIENT_US_MAX / MS_US));
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* or a request that ends waits for a name that is still looked up */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (request->ca[0] != '\0')
	{
		curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
}

void
http_client_send(HttpClient *client, const HttpClientRequest *request)
{
	CURL	 *easy = curl_easy_init();
	CURLMcode code;

	Assert(client->easy == NULL && easy != NULL);
	client->easy = easy;
	client->refused = false;
	buf_clear(&client->answer);
	buf_clear(&client->body);
	buf_add(&client->body, request->body->data, request->body->len);
	for (const char *const *line = request->headers; *line != NULL; line++)
		client->headers = curl_slist_append(client->headers, *line);
	client->headers = curl_slist_append(client->headers, "Expect:");

	http_client_limit(easy, request);
	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, request->agent);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, client->headers);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
					 (curl_off_t) client->body.len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, buf_str(&client->body));
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, http_client_take);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, client);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, http_client_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, client);
	/* its timer function sets our timer: work begins in the loop */
	code = curl_multi_add_handle(client->multi, easy);
	Assert(code == CURLM_OK);
}

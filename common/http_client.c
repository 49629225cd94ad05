/*
 * http_client.c - one HTTP POST at a time, by libcurl on the loop
 *
 * libcurl says which descriptors to watch and when to be called again
 * (its "multi_socket" interface); the loop does that.
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

struct Post
{
	Loop			  *loop;
	PostAllows		   allows;
	PostHandler		   handler;
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
typedef struct PostSocket
{
	Post		 *post;
	curl_socket_t fd;
	LoopIo		 *io;
} PostSocket;

/* ---- between libcurl and the loop -------------------------------------- */

static void
post_end(Post *post, CURLcode code)
{
	PostAnswer answer = {
		.refused = post->refused && code == CURLE_COULDNT_CONNECT,
	};
	long number = 0;

	if (code == CURLE_OK)
		curl_easy_getinfo(post->easy, CURLINFO_RESPONSE_CODE, &number);
	answer.status = (int) number;
	if (code != CURLE_OK)
		answer.error = curl_easy_strerror(code);
	if (code == CURLE_PEER_FAILED_VERIFICATION)
	{
		curl_easy_getinfo(post->easy, CURLINFO_SSL_VERIFYRESULT, &number);
		answer.error = number > X509_V_ERR_UNSPECIFIED
						   ? X509_verify_cert_error_string(number)
						   : "the certificate is another host's";
	}
	if (answer.refused)
		answer.error = "the address is not allowed";
	post_cancel(post);
	answer.body = buf_str(&post->answer);
	post->handler(post->arg, &answer);
}

/* libcurl works; if it has come to the end of the request, that is told. */
static void
post_work(Post *post, curl_socket_t fd, int events)
{
	int		 running;
	int		 queued;
	CURLMsg *message;
	CURLcode code;

	curl_multi_socket_action(post->multi, fd, events, &running);
	while ((message = curl_multi_info_read(post->multi, &queued)) != NULL)
	{
		if (message->msg != CURLMSG_DONE)
			continue;
		code = message->data.result;
		post_end(post, code);
		return; /* there is one request */
	}
}

static void
post_ready(void *arg, uint32_t events)
{
	const PostSocket *one = arg;
	int				  flags = 0;

	if (events & (EPOLLIN | EPOLLHUP))
		flags |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		flags |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		flags |= CURL_CSELECT_ERR;
	post_work(one->post, one->fd, flags);
}

static void
post_due(void *arg)
{
	post_work(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* CURLMOPT_SOCKETFUNCTION */
static int
post_watch(CURL *easy UNUSED, curl_socket_t fd, int what, void *arg,
		   void *known)
{
	Post	   *post = arg;
	PostSocket *one = known;
	uint32_t	events = 0;

	if (what == CURL_POLL_REMOVE)
	{
		if (one != NULL)
			loop_io_free(one->io);
		free(one);
		curl_multi_assign(post->multi, fd, NULL);
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	if (one == NULL)
	{
		one = xcalloc(1, sizeof(PostSocket));
		*one = (PostSocket){.post = post, .fd = fd};
		one->io = loop_io_new(post->loop, fd, events, post_ready, one);
		curl_multi_assign(post->multi, fd, one);
	}
	else
		loop_io_want(one->io, events);
	return 0;
}

/* CURLMOPT_TIMERFUNCTION */
static int
post_time(CURLM *multi UNUSED, long wait_ms, void *arg)
{
	Post *post = arg;

	loop_timer_set(post->timer, wait_ms < 0
									? NEVER
									: loop_now(post->loop) + wait_ms * MS_US);
	return 0;
}

/* CURLOPT_OPENSOCKETFUNCTION: each address before it is connected to */
static curl_socket_t
post_open(void *arg, curlsocktype purpose UNUSED, struct curl_sockaddr *address)
{
	Post *post = arg;

	if (!post->allows(post->arg, &address->addr))
	{
		post->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
				  address->protocol);
}

/* CURLOPT_WRITEFUNCTION */
static size_t
post_take(char *data, size_t size, size_t count, void *arg)
{
	Post *post = arg;

	buf_add(&post->answer, data,
			Min(size * count, POST_ANSWER_MAX - post->answer.len));
	return size * count;
}

/* ---- life -------------------------------------------------------------- */

Post *
post_new(Loop *loop, PostAllows allows, PostHandler handler, void *arg)
{
	Post	*post = xcalloc(1, sizeof(Post));
	CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);

	Assert(code == CURLE_OK);
	post->loop = loop;
	post->allows = allows;
	post->handler = handler;
	post->arg = arg;
	post->timer = loop_timer_new(loop, post_due, post);
	post->multi = curl_multi_init();
	Assert(post->multi != NULL);
	curl_multi_setopt(post->multi, CURLMOPT_SOCKETFUNCTION, post_watch);
	curl_multi_setopt(post->multi, CURLMOPT_SOCKETDATA, post);
	curl_multi_setopt(post->multi, CURLMOPT_TIMERFUNCTION, post_time);
	curl_multi_setopt(post->multi, CURLMOPT_TIMERDATA, post);
	return post;
}

void
post_free(Post *post)
{
	if (post == NULL)
		return;
	post_cancel(post);
	curl_multi_cleanup(post->multi);
	loop_timer_free(post->timer);
	buf_free(&post->body);
	buf_free(&post->answer);
	free(post);
	curl_global_cleanup();
}

void
post_cancel(Post *post)
{
	if (post->easy == NULL)
		return;
	curl_multi_remove_handle(post->multi, post->easy);
	curl_easy_cleanup(post->easy);
	curl_slist_free_all(post->headers);
	post->easy = NULL;
	post->headers = NULL;
}

static void
post_limit(CURL *easy, const PostRequest *request)
{
	const char *protocols = request->plain ? "https,http" : "https";

	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) (POST_US_MAX / MS_US));
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
post_send(Post *post, const PostRequest *request)
{
	CURL	 *easy = curl_easy_init();
	CURLMcode code;

	Assert(post->easy == NULL && easy != NULL);
	post->easy = easy;
	post->refused = false;
	buf_clear(&post->answer);
	buf_clear(&post->body);
	buf_add(&post->body, request->body->data, request->body->len);
	for (const char *const *line = request->headers; *line != NULL; line++)
		post->headers = curl_slist_append(post->headers, *line);
	post->headers = curl_slist_append(post->headers, "Expect:");

	post_limit(easy, request);
	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, request->agent);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
					 (curl_off_t) post->body.len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, buf_str(&post->body));
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, post_take);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, post_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, post);
	/* its timer function sets our timer: work begins in the loop */
	code = curl_multi_add_handle(post->multi, easy);
	Assert(code == CURLM_OK);
}

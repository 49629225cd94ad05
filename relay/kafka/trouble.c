/*
 * trouble.c - why a client of the broker gets no answer
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/trouble.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "kafka/log_text.h"

/* ---- reports of librdkafka and OpenSSL --------------------------------- */

static void
trouble_error(rd_kafka_t *client UNUSED, int error, const char *reason,
			  void *arg)
{
	KafkaTrouble *trouble = arg;

	/* that all are down follows from what was wrong with each */
	if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		return;
	pthread_mutex_lock(&trouble->lock);
	trouble->error = (rd_kafka_resp_err_t) error;
	snprintf(trouble->text, sizeof(trouble->text), "%s", reason);
	pthread_mutex_unlock(&trouble->lock);
}

/* In a thread of librdkafka's.  A connection that ends before an answer makes a
 * line of the log, and no event. */
static void
trouble_log(const rd_kafka_t *client, int level UNUSED, const char *facility,
			const char *text)
{
	KafkaTrouble *trouble = rd_kafka_opaque(client);

	if (trouble == NULL || strcmp(facility, "FAIL") != 0)
		return;
	pthread_mutex_lock(&trouble->lock);
	snprintf(trouble->log, sizeof(trouble->log), "%s", log_text_reason(text));
	pthread_mutex_unlock(&trouble->lock);
}

static void
trouble_add_certificate(BIO *to, X509 *certificate)
{
	if (certificate == NULL)
		return;
	BIO_puts(to, ": subject ");
	X509_NAME_print_ex(to, X509_get_subject_name(certificate), 0,
					   XN_FLAG_RFC2253);
	BIO_puts(to, ", issuer ");
	X509_NAME_print_ex(to, X509_get_issuer_name(certificate), 0,
					   XN_FLAG_RFC2253);
	BIO_puts(to, ", valid until ");
	ASN1_TIME_print(to, X509_get0_notAfter(certificate));
}

/* In a thread of librdkafka's.  The verdict is OpenSSL's own. */
static int
trouble_verify(rd_kafka_t *client UNUSED, const char *broker,
			   int32_t broker_id UNUSED, int *error, int depth UNUSED,
			   const char *der, size_t size, char *reason, size_t reason_size,
			   void *arg)
{
	KafkaTrouble		*trouble = arg;
	const unsigned char *at = (const unsigned char *) der;
	X509				*certificate;
	BIO					*text;
	int					 len;

	if (*error == X509_V_OK)
		return 1;
	certificate = d2i_X509(NULL, &at, (long) size);
	text = BIO_new(BIO_s_mem());
	if (text != NULL)
	{
		BIO_printf(text, "%s: the certificate is refused: %s", broker,
				   X509_verify_cert_error_string(*error));
		trouble_add_certificate(text, certificate);
		pthread_mutex_lock(&trouble->lock);
		len = BIO_read(text, trouble->certificate,
					   sizeof(trouble->certificate) - 1);
		Assert(len < (int) sizeof(trouble->certificate));
		trouble->certificate[Max(len, 0)] = '\0';
		pthread_mutex_unlock(&trouble->lock);
	}
	snprintf(reason, reason_size, "%s", X509_verify_cert_error_string(*error));
	BIO_free(text);
	X509_free(certificate);
	return 0;
}

void
kafka_trouble_init(KafkaTrouble *trouble, const Config *config,
				   rd_kafka_conf_t *conf)
{
	char   value[16] = "";
	size_t size = sizeof(value);

	*trouble = (KafkaTrouble){.config = config};
	pthread_mutex_init(&trouble->lock, NULL);
	rd_kafka_conf_set_opaque(conf, trouble);
	rd_kafka_conf_set_error_cb(conf, trouble_error);
	rd_kafka_conf_set_log_cb(conf, trouble_log);
	/* where nothing shall be verified, nothing is */
	if (rd_kafka_conf_get(conf, "enable.ssl.certificate.verification", value,
						  &size) != RD_KAFKA_CONF_OK ||
		strcmp(value, "false") != 0)
		(void) rd_kafka_conf_set_ssl_cert_verify_cb(conf, trouble_verify);
}

void
kafka_trouble_poll(KafkaTrouble *trouble, rd_kafka_t *client)
{
	Assert(rd_kafka_opaque(client) == trouble);
	while (rd_kafka_poll(client, 0) > 0)
		;
}

/* ---- what it means ----------------------------------------------------- */

bool
kafka_trouble_is_final(KafkaTrouble *trouble)
{
	bool final;

	pthread_mutex_lock(&trouble->lock);
	final = trouble->certificate[0] != '\0' ||
			trouble->error == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
			trouble->error == RD_KAFKA_RESP_ERR__SSL;
	pthread_mutex_unlock(&trouble->lock);
	return final;
}

bool
kafka_error_passes(rd_kafka_resp_err_t error)
{
	switch ((int) error)
	{
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
		case RD_KAFKA_RESP_ERR__WAIT_CACHE:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR__UNKNOWN_BROKER:
		case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
		case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
		case RD_KAFKA_RESP_ERR_NOT_CONTROLLER:
		case RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
			return true;
		default:
			return false;
	}
}

/* Of TLS all files count, for the reason names none. */
void
kafka_name_files(const Config *config, const char *reason, Buf *to)
{
	static const char *const files[] = {
		"ssl.ca.location",	"ssl.certificate.location", "ssl.key.location",
		"ssl.crl.location", "ssl.keystore.location",	"sasl.kerberos.keytab",
	};
	bool tls = log_text_is_tls(reason);

	for (size_t i = 0; i < Lengthof(files); i++)
	{
		const char *file = config_kafka_get(config, files[i]);

		if (file != NULL && (tls || log_text_names(reason, files[i])))
			buf_printf(to, "; %s = %s", files[i], file);
	}
	if (tls && config_kafka_get(config, "ssl.ca.location") == NULL &&
		config_kafka_get(config, "ssl.ca.pem") == NULL)
		buf_add_str(to, "; ssl.ca.location is not set: the system's are used");
}

void
kafka_trouble_explain(KafkaTrouble *trouble, rd_kafka_resp_err_t error, Buf *to)
{
	const Config *config = trouble->config;
	const char	 *servers = config_kafka_get(config, "bootstrap.servers");
	const char	 *why;

	Assert(error != RD_KAFKA_RESP_ERR_NO_ERROR);
	if (servers == NULL)
		servers = config_kafka_get(config, "metadata.broker.list");
	pthread_mutex_lock(&trouble->lock);
	why = trouble->certificate[0] != '\0' ? trouble->certificate
		  : trouble->text[0] != '\0'	  ? trouble->text
										  : trouble->log;
	buf_add_str(to, rd_kafka_err2str(error));
	if (why[0] != '\0')
		buf_printf(to, ": %s", why);
	else
		buf_printf(to, ": no answer from %s",
				   servers != NULL ? servers : "any broker");
	/* a listener without TLS closes the connection, which OpenSSL reports */
	if (log_text_is_tls_eof(why))
		buf_add_str(to, ": does that listener speak TLS?");
	kafka_name_files(config, why, to);
	pthread_mutex_unlock(&trouble->lock);
	buf_str(to);
}

/*
 * trouble.c - why a client of the broker gets no answer
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/trouble.h"

#include <stdio.h>
#include <string.h>

#include "common/certificate.h"
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

/*
 * In a thread of librdkafka's.  A connection that ends before an answer makes a
 * line of the log, and no event.
 */
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
	Buf					 text = {0};

	if (*error == X509_V_OK)
		return 1;
	certificate = d2i_X509(NULL, &at, (long) size);
	buf_printf(&text, "%s: ", broker);
	certificate_describe(*error, certificate, &text);
	pthread_mutex_lock(&trouble->lock);
	trouble->verdict = *error;
	snprintf(trouble->certificate, sizeof(trouble->certificate), "%s",
			 buf_str(&text));
	pthread_mutex_unlock(&trouble->lock);
	snprintf(reason, reason_size, "%s", X509_verify_cert_error_string(*error));
	buf_free(&text);
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
			trouble->error == RD_KAFKA_RESP_ERR__SSL ||
			log_text_is_own_certificate(trouble->text) ||
			log_text_is_own_certificate(trouble->log);
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

/* ---- the next step ------------------------------------------------------ */

#define SCRAM_FIXED 0x020601ff /* librdkafka 2.6.1 */

/* SASL_SSL and SASL_PLAINTEXT, in either case; others are SSL and PLAINTEXT. */
static bool
trouble_uses_sasl(const Config *config)
{
	const char *protocol = config_kafka_get(config, "security.protocol");

	return protocol != NULL && (protocol[0] | 32) == 's' &&
		   (protocol[1] | 32) == 'a';
}

static bool
trouble_logs_in_by_scram(const Config *config)
{
	const char *mechanism = config_kafka_get(config, "sasl.mechanism");

	if (mechanism == NULL)
		mechanism = config_kafka_get(config, "sasl.mechanisms");
	return trouble_uses_sasl(config) && mechanism != NULL &&
		   strncmp(mechanism, "SCRAM-", 6) == 0;
}

bool
kafka_scram_is_limited(const Config *config)
{
	return rd_kafka_version() < SCRAM_FIXED && trouble_logs_in_by_scram(config);
}

void
kafka_describe_scram(Buf *to)
{
	buf_printf(
		to,
		"this librdkafka, %s, repeats the nonce of SCRAM, which brokers "
		"since Kafka 4.0 refuse as invalid credentials: " KAFKA_SCRAM_ADVICE,
		rd_kafka_version_str());
	buf_str(to);
}

static bool
trouble_has_certificate(const Config *config)
{
	return config_kafka_get(config, "ssl.certificate.location") != NULL ||
		   config_kafka_get(config, "ssl.certificate.pem") != NULL ||
		   config_kafka_get(config, "ssl.keystore.location") != NULL;
}

static void
trouble_advise_login(const Config *config, const char *text, Buf *to)
{
	const char *user = config_kafka_get(config, "sasl.username");
	const char
		*tokens = config_kafka_get(config,
								   "sasl.oauthbearer.token.endpoint.url");

	if (log_text_is_mechanism(text))
		buf_add_str(to, "set sasl.mechanism to one that the broker offers");
	else if (kafka_scram_is_limited(config))
		kafka_describe_scram(to);
	else if (user != NULL)
		buf_printf(to,
				   "see sasl.password of user \"%s\", and that user on the "
				   "broker",
				   user);
	else if (tokens != NULL)
		buf_printf(to,
				   "see sasl.oauthbearer.client.id and .client.secret, and the "
				   "token server at %s",
				   tokens);
	else
		buf_add_str(to, "see the properties sasl.*");
}

void
kafka_advise(const Config *config, rd_kafka_resp_err_t error, const char *text,
			 Buf *to)
{
	if (log_text_is_own_certificate(text))
		buf_add_str(to,
					trouble_has_certificate(config)
						? "the broker refuses this relay's certificate: "
						  "see ssl.certificate.location and the authorities "
						  "that the broker trusts"
						: "the broker requires a client certificate: set "
						  "ssl.certificate.location and ssl.key.location");
	else if (error == RD_KAFKA_RESP_ERR__AUTHENTICATION)
		trouble_advise_login(config, text, to);
	buf_str(to);
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
kafka_log_error(LogThrottle *throttle, int64_t now, const char *module,
				const Config *config, rd_kafka_resp_err_t error,
				const char *text)
{
	Buf line = {0};
	Buf advice = {0};

	buf_printf(&line, "%s: %s", rd_kafka_err2name(error), text);
	kafka_name_files(config, text, &line);
	kafka_advise(config, error, text, &advice);
	if (advice.len > 0)
		buf_printf(&line, "; %s", buf_str(&advice));
	log_throttled(throttle, now, LEVEL_WARNING, module, "%s", buf_str(&line));
	buf_free(&line);
	buf_free(&advice);
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

void
kafka_trouble_advise(KafkaTrouble *trouble, Buf *to)
{
	const char *why;

	pthread_mutex_lock(&trouble->lock);
	why = trouble->text[0] != '\0' ? trouble->text : trouble->log;
	Assert((trouble->certificate[0] != '\0') ==
		   (trouble->verdict != X509_V_OK));
	if (trouble->certificate[0] != '\0')
		certificate_advise(trouble->verdict, "ssl.ca.location",
						   "ssl.crl.location", to);
	else
		kafka_advise(trouble->config, trouble->error, why, to);
	pthread_mutex_unlock(&trouble->lock);
	buf_str(to);
}

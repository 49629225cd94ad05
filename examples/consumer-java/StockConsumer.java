// SPDX-License-Identifier: PostgreSQL

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.PrintStream;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A consumer of stock-events, by Kafka's client and JDBC.
 *
 * Each event takes effect once, however often it arrives: apply_event() in
 * ../consumer.sql stores its id in the transaction of its effect.  The offset
 * is committed after that, so the consumer may be killed at any moment.
 * DATABASE_URL names its database, BROKERS the brokers of Kafka.
 */
public class StockConsumer {
    static final Map<String, Object> CONFIG = Map.of(
        "bootstrap.servers", System.getenv("BROKERS"),
        "group.id", "shelf",
        "auto.offset.reset", "earliest", // a new group begins with the oldest
        "isolation.level", "read_committed",
        "enable.auto.commit", false,
        "key.deserializer", StringDeserializer.class,
        "value.deserializer", StringDeserializer.class);

    /** Applies one record, and reports it.  Autocommit: one transaction. */
    static void handle(PreparedStatement apply, PrintStream out,
            ConsumerRecord<String, String> message) throws SQLException {
        if (message.value() == null) {
            return; // a tombstone: a user was forgotten
        }
        apply.setString(1, message.value());
        apply.setString(2, message.value());
        try (ResultSet row = apply.executeQuery()) {
            row.next();
            out.println(row.getString(2) + " " + message.key()
                + (row.getBoolean(1) ? "" : " (seen before)"));
        }
    }

    public static void main(String[] args) throws SQLException {
        PrintStream out = new PrintStream(System.out, true, UTF_8);
        Thread main = Thread.currentThread();
        // a lost connection ends it; systemd starts it again
        try (Connection db = DriverManager.getConnection(
                    "jdbc:" + System.getenv("DATABASE_URL"));
                PreparedStatement apply = db.prepareStatement(
                    "SELECT apply_event(?::jsonb), ?::jsonb->>'event_type'");
                KafkaConsumer<String, String> consumer =
                    new KafkaConsumer<>(CONFIG)) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                consumer.wakeup(); // SIGTERM: poll() throws
                try {
                    main.join();
                } catch (InterruptedException ignored) {
                    Thread.currentThread().interrupt();
                }
            }));
            consumer.subscribe(List.of("stock-events"));
            while (true) {
                for (var message : consumer.poll(Duration.ofSeconds(1))) {
                    handle(apply, out, message);
                }
                consumer.commitSync();
            }
        } catch (WakeupException stop) {
            out.flush();
        }
    }
}

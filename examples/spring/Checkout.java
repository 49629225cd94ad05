// SPDX-License-Identifier: PostgreSQL

package com.example.checkout;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.postgresql.util.PSQLException;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.core.retry.RetryException;
import org.springframework.core.retry.RetryPolicy;
import org.springframework.core.retry.RetryTemplate;
import org.springframework.jdbc.core.simple.JdbcClient;
import org.springframework.stereotype.Service;
import org.springframework.transaction.annotation.Transactional;

/**
 * A shop's checkout with pgstock, by Spring Boot.
 *
 * An order and its reservation are one transaction.  Reads requests from
 * standard input and prints an answer to each: see ../README.md.
 * DATABASE_URL names the database.
 */
@SpringBootApplication
public class Checkout {
    /** The shop's own rule: pieces of one product in an order. */
    static final int PIECES_MAX = 5;
    static final Set<String> RUN_AGAIN =
        Set.of("40001", "40P01", "57P01", "57P02", "57P03");

    record Reserved(String productId, long granted, boolean replayed) {}

    record Confirmed(String status, boolean replayed) {}

    record Paid(boolean late, boolean replayed) {}

    /** The order breaks the shop's own rule: unchecked, so it rolls back. */
    static class TooMany extends RuntimeException {
        private static final long serialVersionUID = 1;

        TooMany(String product) {
            super("at most " + PIECES_MAX + " of " + product
                + ", nothing was reserved");
        }
    }

    /** What is done in one transaction.  Called from outside only: a call
        within the class would not pass the proxy that opens it. */
    @Service
    static class Orders {
        private final JdbcClient db;

        Orders(JdbcClient db) {
            this.db = db;
        }

        /** Writes an order and reserves its stock: both or neither. */
        @Transactional
        public List<Reserved> checkout(String order, String user, String key,
                String items) {
            db.sql("INSERT INTO orders (id, user_id) VALUES (?, ?)"
                    + " ON CONFLICT (id) DO NOTHING")
                .params(order, user).update();
            List<Reserved> lines = db.sql(
                    "SELECT product_id, granted, replayed FROM reserve_order("
                    + "?, ?::jsonb, user_id => ?, idempotency_key => ?)")
                .params(order, items, user, key).query(Reserved.class).list();
            for (Reserved line : lines) {
                if (line.granted > PIECES_MAX) {
                    throw new TooMany(line.productId); // undoes all of it
                }
            }
            return lines;
        }

        /** The payment has arrived: sells what is reserved, or refunds it. */
        @Transactional
        public Paid pay(String order, String payment) {
            List<Confirmed> lines = db.sql(
                    "SELECT status, replayed FROM confirm_stock(?, ?)")
                .params(order, payment).query(Confirmed.class).list();
            boolean late = lines.stream()
                .anyMatch(line -> line.status.equals("shortfall"));
            db.sql("UPDATE orders SET state = ? WHERE id = ?")
                .params(late ? "refund" : "paid", order).update();
            return new Paid(late, lines.get(0).replayed);
        }
    }

    /**
     * Runs a whole transaction again if that may help; around it, never
     * inside, where it has failed already.  6 seconds in all.
     *
     * A connection that was lost during COMMIT does not show whether the
     * transaction was committed: it must have the same effect once or twice,
     * as checkout has by its key, and pay by the order's state.
     */
    static final RetryTemplate AGAIN = new RetryTemplate(RetryPolicy.builder()
        .maxRetries(7)
        .delay(Duration.ofMillis(75))
        .jitter(Duration.ofMillis(25))
        .multiplier(2)
        .predicate(error -> isTransient(cause(error)))
        .build());

    static <T> T again(Supplier<T> work) {
        try {
            return AGAIN.execute(work::get);
        } catch (RetryException error) {
            throw (RuntimeException) error.getCause();
        }
    }

    /** The driver's error in one of Spring's; null if there is none. */
    static SQLException cause(Throwable error) {
        while (error != null && !(error instanceof SQLException)) {
            error = error.getCause();
        }
        return (SQLException) error;
    }

    /** Whether the same transaction may succeed when it is run again. */
    static boolean isTransient(SQLException error) {
        if (error == null) {
            return false;
        }
        String state = error.getSQLState();
        return state == null // not an answer of the server
            || state.startsWith("08") || RUN_AGAIN.contains(state);
    }

    /** Handles a request; what to tell the customer. */
    static String answer(Orders orders, String[] f) {
        try {
            String text;
            boolean replayed;
            if (f[0].equals("checkout")) {
                List<Reserved> lines = again(
                    () -> orders.checkout(f[1], f[2], f[3], f[4]));
                replayed = lines.get(0).replayed;
                text = "reserved " + lines.stream()
                    .map(line -> line.granted + " of " + line.productId)
                    .collect(Collectors.joining(", "));
            } else {
                Paid paid = again(() -> orders.pay(f[1], f[2]));
                replayed = paid.replayed;
                text = paid.late ? "too late, refund the payment" : "paid";
            }
            return text + (replayed ? ", as before" : "");
        } catch (TooMany error) {
            return error.getMessage();
        } catch (RuntimeException error) {
            SQLException cause = cause(error);
            if (!(cause instanceof PSQLException failure)
                    || isTransient(cause)) {
                throw error;
            }
            var server = failure.getServerErrorMessage();
            if (failure.getSQLState().equals("SK001")) {
                return "not enough stock. " + server.getDetail();
            }
            return "refused, " + failure.getSQLState() + ": "
                + server.getMessage();
        }
    }

    public static void main(String[] args) throws IOException {
        SpringApplication app = new SpringApplication(Checkout.class);
        // Settings as application.properties has them in a project, but for
        // the log: it would be among the answers.
        PrintStream out = new PrintStream(System.out, true, UTF_8);
        try (var context = app.run(
                "--spring.datasource.url=jdbc:" + System.getenv("DATABASE_URL"),
                "--spring.datasource.hikari.maximum-pool-size=4",
                "--spring.datasource.hikari.connection-timeout=5000",
                "--spring.main.banner-mode=off", "--logging.level.root=off");
                BufferedReader input = new BufferedReader(
                    new InputStreamReader(System.in, UTF_8))) {
            Orders orders = context.getBean(Orders.class);
            String line;
            while ((line = input.readLine()) != null) {
                String[] request = line.split("\t", -1);
                out.println(request[1] + ": " + answer(orders, request));
            }
        }
    }
}

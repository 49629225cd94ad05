// SPDX-License-Identifier: PostgreSQL

import static java.nio.charset.StandardCharsets.UTF_8;

import jakarta.persistence.Column;
import jakarta.persistence.Entity;
import jakarta.persistence.Id;
import jakarta.persistence.PersistenceException;
import jakarta.persistence.Table;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.sql.SQLException;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.hibernate.Session;
import org.hibernate.SessionFactory;
import org.hibernate.cfg.Configuration;
import org.postgresql.util.PSQLException;

/**
 * A shop's checkout with pgstock, by Hibernate.
 *
 * An order and its reservation are one transaction.  Reads requests from
 * standard input and prints an answer to each: see ../README.md.
 * DATABASE_URL names the database.
 */
public class Checkout {
    /** The shop's own rule: pieces of one product in an order. */
    static final int PIECES_MAX = 5;
    /** 6 seconds in all. */
    static final int TRIES = 8;
    static final Set<String> RUN_AGAIN =
        Set.of("40001", "40P01", "57P01", "57P02", "57P03");

    @Entity(name = "Order")
    @Table(name = "orders")
    static class Order {
        @Id
        String id;

        @Column(name = "user_id")
        String userId;

        String state;
    }

    record Reserved(String product, long granted, boolean replayed) {}

    record Confirmed(String status, boolean replayed) {}

    record Paid(boolean late, boolean replayed) {}

    /** The order breaks the shop's own rule. */
    static class TooMany extends RuntimeException {
        private static final long serialVersionUID = 1;

        TooMany(String product) {
            super("at most " + PIECES_MAX + " of " + product
                + ", nothing was reserved");
        }
    }

    /** Writes an order and reserves its stock: both or neither. */
    static List<Reserved> checkout(Session session, String order, String user,
            String key, String items) {
        // persist() would write it at the next flush, and fail if it is there
        session.createMutationQuery(
                "insert into Order (id, userId, state)"
                + " values (:id, :user, 'new') on conflict (id) do nothing")
            .setParameter("id", order)
            .setParameter("user", user)
            .executeUpdate();
        // :: after a parameter would be read as part of its name: cast
        List<Reserved> lines = session.createNativeQuery(
                "select product_id, granted, replayed from reserve_order("
                + ":order, cast(:items as jsonb), user_id => :user,"
                + " idempotency_key => :key)", Reserved.class)
            .setParameter("order", order)
            .setParameter("items", items)
            .setParameter("user", user)
            .setParameter("key", key)
            .getResultList();
        for (Reserved line : lines) {
            if (line.granted > PIECES_MAX) {
                throw new TooMany(line.product); // undoes all of it
            }
        }
        return lines;
    }

    /** The payment has arrived: sells what is reserved, or has it refunded. */
    static Paid pay(Session session, String order, String payment) {
        List<Confirmed> lines = session.createNativeQuery(
                "select status, replayed from confirm_stock(:order, :payment)",
                Confirmed.class)
            .setParameter("order", order)
            .setParameter("payment", payment)
            .getResultList();
        boolean late = lines.stream()
            .anyMatch(line -> line.status.equals("shortfall"));
        session.find(Order.class, order).state = late ? "refund" : "paid";
        return new Paid(late, lines.get(0).replayed);
    }

    /**
     * Runs work in a transaction, and again if that may help.
     *
     * A connection that was lost during COMMIT does not show whether the
     * transaction was committed: work must have the same effect once or
     * twice, as checkout has by its key, and pay by the order's state.  Each
     * try has a session of its own: one that has failed is not used again.
     */
    static <T> T inTransaction(SessionFactory sessions,
            Function<Session, T> work) throws InterruptedException {
        for (int attempt = 1; ; attempt++) {
            try {
                return sessions.fromTransaction(work); // COMMIT, or ROLLBACK
            } catch (PersistenceException error) {
                if (attempt == TRIES || !isTransient(cause(error))) {
                    throw error;
                }
            }
            long wait = 50L << attempt;
            Thread.sleep(ThreadLocalRandom.current()
                .nextLong(wait / 2, wait));
        }
    }

    /** The driver's error in one of Hibernate's; null if there is none. */
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
    static String answer(SessionFactory sessions, String[] f)
            throws InterruptedException {
        try {
            String text;
            boolean replayed;
            if (f[0].equals("checkout")) {
                List<Reserved> lines = inTransaction(sessions,
                    session -> checkout(session, f[1], f[2], f[3], f[4]));
                replayed = lines.get(0).replayed;
                text = "reserved " + lines.stream()
                    .map(line -> line.granted + " of " + line.product)
                    .collect(Collectors.joining(", "));
            } else {
                Paid paid = inTransaction(sessions,
                    session -> pay(session, f[1], f[2]));
                replayed = paid.replayed;
                text = paid.late ? "too late, refund the payment" : "paid";
            }
            return text + (replayed ? ", as before" : "");
        } catch (TooMany error) {
            return error.getMessage();
        } catch (PersistenceException error) {
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

    public static void main(String[] args)
            throws IOException, InterruptedException {
        Configuration config = new Configuration()
            .addAnnotatedClass(Order.class)
            .setProperty("jakarta.persistence.jdbc.url",
                "jdbc:" + System.getenv("DATABASE_URL"))
            .setProperty("hibernate.hikari.maximumPoolSize", "4")
            .setProperty("hibernate.hikari.connectionTimeout", "5000");
        PrintStream out = new PrintStream(System.out, true, UTF_8);
        try (SessionFactory sessions = config.buildSessionFactory();
                BufferedReader input = new BufferedReader(
                    new InputStreamReader(System.in, UTF_8))) {
            String line;
            while ((line = input.readLine()) != null) {
                String[] request = line.split("\t", -1);
                out.println(request[1] + ": " + answer(sessions, request));
            }
        }
    }
}

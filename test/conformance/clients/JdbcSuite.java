import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/**
 * What pgjdbc does in earnest, one line a behaviour: name, tab, result. Run straight to the server and through the
 * gateway; both outputs must be equal. Arguments: URL, user, password, root certificate.
 */
public final class JdbcSuite {
  static void report(String name, Object value) {
    System.out.println(name + "\t" + value);
  }

  static Connection connect(String[] args, String... more) throws SQLException {
    Properties p = new Properties();
    p.setProperty("user", args[1]);
    p.setProperty("password", args[2]);
    p.setProperty("sslmode", "verify-full");
    p.setProperty("sslrootcert", args[3]);
    for (int i = 0; i + 1 < more.length; i += 2) p.setProperty(more[i], more[i + 1]);
    return DriverManager.getConnection(args[0], p);
  }

  public static void main(String[] args) throws Exception {
    try (Connection c = connect(args)) {
      try (Statement s = c.createStatement()) {
        s.execute("drop table if exists jdbc_t");
        s.execute("create table jdbc_t (id int primary key, t text, n numeric(10,2), d timestamptz, b bytea)");
      }
      try (PreparedStatement ps = c.prepareStatement("insert into jdbc_t (id, t, n, b) values (?, ?, ?, ?)")) {
        for (int i = 0; i < 20; i++) {
          ps.setInt(1, i);
          ps.setString(2, "row é " + i);
          ps.setBigDecimal(3, new java.math.BigDecimal("3.25"));
          ps.setBytes(4, new byte[] {0, (byte) 255});
          ps.addBatch();
        }
        report("batch", ps.executeBatch().length);
      }
      try (PreparedStatement ps = c.prepareStatement("select id, t, n, length(b) from jdbc_t where id = ?")) {
        int sum = 0;
        for (int i = 0; i < 12; i++) { // past prepareThreshold: a named server-side statement
          ps.setInt(1, i);
          try (ResultSet r = ps.executeQuery()) {
            r.next();
            sum += r.getInt(1) + r.getInt(4);
            if (i == 11) report("prepared", r.getString(2) + " " + r.getBigDecimal(3));
          }
        }
        report("prepared-sum", sum);
      }
      c.setAutoCommit(false);
      try (Statement s = c.createStatement()) {
        s.executeUpdate("update jdbc_t set t = 'changed' where id = 1");
        Savepoint sp = c.setSavepoint();
        try {
          s.execute("select 1/0");
        } catch (SQLException e) {
          report("error", e.getSQLState());
          c.rollback(sp);
        }
        c.commit();
        try (ResultSet r = s.executeQuery("select t from jdbc_t where id = 1")) {
          r.next();
          report("committed", r.getString(1));
        }
        s.executeUpdate("delete from jdbc_t where id = 1");
        c.rollback();
      }
      try (Statement s = c.createStatement()) {
        s.setFetchSize(7);
        int rows = 0;
        try (ResultSet r = s.executeQuery("select g from generate_series(1, 1000) g")) {
          while (r.next()) rows++;
        }
        report("fetch-size", rows);
      }
      c.commit();
      c.setAutoCommit(true);
      CopyManager copy = ((PGConnection) c).getCopyAPI();
      report("copy-in", copy.copyIn("copy jdbc_t (id, t) from stdin", new StringReader("1000\ta\n1001\tb\n")));
      StringWriter out = new StringWriter();
      report("copy-out", copy.copyOut("copy (select id, t from jdbc_t where id >= 1000 order by id) to stdout", out) + " " + out.toString().replace("\n", "|"));
      try (Statement s = c.createStatement()) {
        Thread t = new Thread(() -> {
          try {
            Thread.sleep(500);
            s.cancel();
          } catch (Exception e) {
            report("cancel-failed", e.getMessage());
          }
        });
        t.start();
        try {
          s.execute("select pg_sleep(30)");
          report("cancel", "not cancelled");
        } catch (SQLException e) {
          report("cancel", e.getSQLState());
        }
        t.join();
        try (ResultSet r = s.executeQuery("select 42")) {
          r.next();
          report("after-cancel", r.getInt(1));
        }
      }
      DatabaseMetaData m = c.getMetaData();
      int columns = 0;
      try (ResultSet r = m.getColumns(null, "public", "jdbc_t", "%")) {
        while (r.next()) columns++;
      }
      try (ResultSet r = m.getPrimaryKeys(null, "public", "jdbc_t")) {
        r.next();
        report("metadata", columns + " " + r.getString("COLUMN_NAME"));
      }
      try (Statement s = c.createStatement()) {
        boolean more = s.execute("select 1; select 2");
        int results = 0;
        while (more || s.getUpdateCount() != -1) {
          results++;
          more = s.getMoreResults();
        }
        report("multi", results);
        s.execute("drop table jdbc_t");
      }
    }
    try (Connection c = connect(args, "preferQueryMode", "simple"); PreparedStatement ps = c.prepareStatement("select ? || 'x'")) {
      ps.setString(1, "it's");
      try (ResultSet r = ps.executeQuery()) {
        r.next();
        report("simple-mode", r.getString(1));
      }
    }
  }
}

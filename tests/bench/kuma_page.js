// Measures the dashboard of Uptime Kuma with as many monitors as the console's benchmark has.
//
// Usage: node tests/bench/kuma_page.js FOLDER [MONITORS [COUNT]]
//
// FOLDER contains the unpacked and installed npm package uptime-kuma (npm pack uptime-kuma; tar xzf …;
// npm install --omit=dev --legacy-peer-deps; 2.0.0-dev.0 also needs cp db/patch-*.sql
// db/old_migrations). The dashboard shows nothing until the server has sent
// the list of all monitors over the socket, so the time from the sign-in to that list is measured.
// The monitors are paused: none is tested meanwhile.
"use strict";
const fs = require("fs"), os = require("os"), path = require("path");
const { spawn } = require("child_process");
const folder = path.resolve(process.argv[2]);
const monitors = Number(process.argv[3] ?? 10000), count = Number(process.argv[4] ?? 20);
const { io } = require(path.join(folder, "node_modules/socket.io-client"));
const sqlite = require(path.join(folder, "node_modules/@louislam/sqlite3"));
const PORT = 3998, PASSWORD = "correct horse 1 battery";
const data = fs.mkdtempSync(path.join(os.tmpdir(), "kuma-")) + "/";
fs.writeFileSync(data + "db-config.json", JSON.stringify({ type: "sqlite" }));
const env = { ...process.env, DATA_DIR: data, UPTIME_KUMA_HOST: "127.0.0.1", UPTIME_KUMA_PORT: String(PORT), NODE_ENV: "production" };
const server = spawn(process.execPath, ["server/server.js"], { cwd: folder, env, stdio: process.env.KUMA_LOG ? "inherit" : "ignore" });
const wait = ms => new Promise(done => setTimeout(done, ms));
const ask = (socket, ...what) => new Promise(done => socket.emit(...what, done));
const connect = () => new Promise(done => {
  const socket = io(`http://127.0.0.1:${PORT}`, { transports: ["websocket"], reconnectionDelayMax: 500 });
  socket.on("connect", () => done(socket));
});
const insert = () => new Promise((done, fail) => {
  const db = new sqlite.Database(data + "kuma.db");
  db.configure("busyTimeout", 60000);
  db.serialize(() => {
    db.run("BEGIN");
    const one = db.prepare("INSERT INTO monitor (name, active, user_id, interval, url, type, weight) VALUES (?, 0, 1, 300, ?, 'http', 2000)");
    for (let i = 0; i < monitors; i++) one.run(`Mail ${i}`, `https://mx${i >> 2}.example.com`);
    one.finalize();
    db.run("COMMIT", error => error ? fail(error) : done(db.close()));
  });
});
const memory = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${server.pid}/status`, "utf8"))[1]) >> 10;
const main = async () => {
  const first = await connect();
  for (let tries = 0; tries < 100; tries++) {
    const answer = await ask(first, "setup", "admin", PASSWORD);
    if (answer.ok) break;
    await wait(500);
  }
  first.close();
  await insert();
  const times = [];
  let size = 0;
  for (let i = 0; i < count; i++) {
    const socket = await connect();
    const list = new Promise(done => socket.on("monitorList", done));
    const begun = performance.now();
    const answer = await ask(socket, "login", { username: "admin", password: PASSWORD, token: "" });
    if (!answer.ok) throw new Error(JSON.stringify(answer));
    const all = await list;
    times.push(performance.now() - begun);
    if (Object.keys(all).length !== monitors) throw new Error(`${Object.keys(all).length} monitors`);
    size = JSON.stringify(all).length;
    socket.close();
    await wait(4000); // Sign-ins are limited to 20 a minute.
  }
  times.sort((a, b) => a - b);
  const at = share => times[Math.min(times.length - 1, Math.floor(times.length * share))].toFixed(0);
  console.log(`${monitors} monitors: median ${at(0.5)} ms, p99 ${at(0.99)} ms, ${(size / 1000).toFixed(0)} kB, memory ${memory()} MB`);
};
main().catch(error => { console.error(error); process.exitCode = 1; }).finally(() => {
  server.kill();
  setTimeout(() => { fs.rmSync(data, { recursive: true, force: true }); process.exit(); }, 2000);
});

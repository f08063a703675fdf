// Listens on socket.io until it has seen some events, and prints each as a line of JSON.
// usage: node socketio.js VERSION URL TOKEN COUNT [TIMEOUT_S] [TRANSPORT] ; VERSION 2 or 4
const [version, url, token, count, timeout = '30', transport] = process.argv.slice(2);
const io = require(`socket.io-client-${version}`);
const socket = io(url, {
  query: { token },
  reconnection: false,
  forceNew: true,
  ...(transport ? { transports: [transport] } : {}),
});
let seen = 0;
let leaving = false;
const leave = (code) => { leaving = true; socket.close(); process.exit(code); };
const refuse = (reason) => { console.log(JSON.stringify({ refused: reason })); leave(3); };
setTimeout(() => leave(seen >= Number(count) ? 0 : 2), Number(timeout) * 1000);
socket.on('connect', () => console.log(JSON.stringify({ connected: true })));
socket.on('connect_error', (error) => refuse(error.message || String(error)));
socket.on('error', (error) => refuse(error && error.message ? error.message : String(error)));
socket.on('disconnect', (reason) => { if (leaving) return; console.log(JSON.stringify({ disconnected: reason })); leave(seen >= Number(count) ? 0 : 4); });
// Every event, whatever its name: 4.x has onAny, 2.x is patched the way its own users do.
const report = (event, payload) => {
  if (event === 'connect' || event === 'disconnect') return;
  console.log(JSON.stringify({ event, payload }));
  seen += 1;
  if (seen >= Number(count)) leave(0);
};
if (socket.onAny) {
  socket.onAny(report);
} else {
  const onevent = socket.onevent;
  socket.onevent = function (packet) {
    onevent.call(this, packet);
    report(packet.data[0], packet.data[1]);
  };
}

// Listens on a websocket until it has seen some frames, and prints each as a line.
// usage: node websocket.js URL COUNT [TIMEOUT_S]
const WebSocket = require('ws');
const [url, count, timeout = '30'] = process.argv.slice(2);
const socket = new WebSocket(url);
let seen = 0;
setTimeout(() => process.exit(seen >= Number(count) ? 0 : 2), Number(timeout) * 1000);
socket.on('open', () => console.log(JSON.stringify({ connected: true })));
socket.on('unexpected-response', (_, response) => { console.log(JSON.stringify({ refused: response.statusCode })); process.exit(3); });
socket.on('close', (code, reason) => { console.log(JSON.stringify({ closed: code, reason: reason.toString() })); process.exit(4); });
socket.on('error', (error) => { console.log(JSON.stringify({ error: error.message })); process.exit(5); });
socket.on('message', (data) => {
  console.log(data.toString());
  seen += 1;
  if (seen >= Number(count)) process.exit(0);
});

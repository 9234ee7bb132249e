// Makes the page that the server embeds.
const fs = require('fs');

fs.mkdirSync('dist', { recursive: true });
fs.writeFileSync('dist/index.html', '<h1>hello</h1>\n');

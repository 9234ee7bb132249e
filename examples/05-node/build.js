// Makes dist/index.html out of a line of Markdown.
const fs = require('fs');
const { marked } = require('marked');

fs.mkdirSync('dist', { recursive: true });
fs.writeFileSync('dist/index.html', marked.parse('# hello'));
